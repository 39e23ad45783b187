//! The compressed streams inside a `.deb`. In go the bytes of the package; out comes its
//! decompressed `data.tar`.
//!
//! Formats: deb(5), ar(5).
//!
//! **Invariant:** decoders get bounded memory, and lengths in headers are never allocated.

use std::io::{self, BufReader, Read};

use super::deb_error::DebError;

/// Memory that an xz stream may ask for.
const MAX_XZ_MEMORY: u64 = 256 << 20;
/// Largest window of a zstd stream, as a power of two.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// Walks the ar members up to `data.tar`, and gives its decompressed stream.
pub(super) fn find_data<'a, R: Read + 'a>(
    mut deb: BufReader<R>,
) -> Result<Box<dyn Read + 'a>, DebError> {
    let cut = |_| DebError::Format("it ends too early".into());
    let mut magic = [0; 8];
    deb.read_exact(&mut magic).map_err(cut)?;
    if &magic != b"!<arch>\n" {
        return Err(DebError::Format("it does not begin as an archive".into()));
    }
    // deb(5): debian-binary, control.tar, data.tar, in this order.
    for number in 0.. {
        let mut header = [0; 60];
        deb.read_exact(&mut header).map_err(cut)?;
        let damaged = || DebError::Format(format!("the header of member {number} is damaged"));
        if &header[58..] != b"`\n" {
            return Err(damaged());
        }
        let text = std::str::from_utf8(&header).map_err(|_| damaged())?;
        let name = text[..16].trim_end().trim_end_matches('/').to_owned();
        let size: u64 = text[48..58].trim_end().parse().map_err(|_| damaged())?;
        if name.starts_with("data.tar") {
            return decompress(&name, deb.take(size));
        }
        let expected = if number == 0 { "debian-binary" } else { "control.tar" };
        if number > 1 || !name.starts_with(expected) {
            return Err(DebError::Format(format!("`{name}` is where {expected} should be")));
        }
        let mut member = (&mut deb).take(size + size % 2);
        let mut version = Vec::new();
        if number == 0 {
            (&mut member).take(64).read_to_end(&mut version).map_err(cut)?;
            if !version.starts_with(b"2.") {
                return Err(DebError::Format("its format version is not 2".into()));
            }
        }
        io::copy(&mut member, &mut io::sink()).map_err(cut)?;
    }
    Err(DebError::Format("it has no data.tar".into()))
}

fn decompress<'a>(name: &str, data: impl Read + 'a) -> Result<Box<dyn Read + 'a>, DebError> {
    let failed = |error: io::Error| DebError::Format(error.to_string());
    Ok(match name {
        "data.tar" => Box::new(data),
        "data.tar.xz" => Box::new(xz_reader(data).map_err(failed)?),
        "data.tar.gz" => Box::new(flate2::read::MultiGzDecoder::new(data)),
        "data.tar.zst" => {
            let mut decoder = zstd::Decoder::new(data).map_err(failed)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG).map_err(failed)?;
            Box::new(decoder)
        }
        other => return Err(DebError::Format(format!("`{other}` is packed in an unknown way"))),
    })
}

/// An xz decoder that refuses to take much memory.
pub(super) fn xz_reader<R: Read>(data: R) -> io::Result<liblzma::read::XzDecoder<R>> {
    let flags = liblzma::stream::CONCATENATED;
    let stream = liblzma::stream::Stream::new_stream_decoder(MAX_XZ_MEMORY, flags)?;
    Ok(liblzma::read::XzDecoder::new_stream(data, stream))
}

/// The tar stream went past its limit.
#[derive(Debug, thiserror::Error)]
#[error("the stream is too long")]
pub(super) struct StreamTooLong;

/// A reader that fails, rather than ends, at its limit.
pub(super) struct Bounded<R> {
    /// Where bytes come from.
    pub(super) inner: R,
    /// Bytes that may still come.
    pub(super) left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or(io::Error::other(StreamTooLong))?;
        Ok(count)
    }
}
