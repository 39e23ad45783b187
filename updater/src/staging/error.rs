//! Why a release could not be staged. An error names the part, the way and the address that
//! it failed on; its source says the rest.

use std::fmt;
use std::io;

use crate::effects::ConnectionError;
use crate::secure_boot::SecureBootError;

/// One of the two runs of bytes that a slot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The root file system.
    Root,
    /// The UKI of the target slot.
    Uki,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Root => "the root",
            Part::Uki => "the UKI",
        })
    }
}

/// A way that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownWay {
    /// Only the blocks that the node has not.
    Blocks,
    /// Every frame.
    Full,
}

impl fmt::Display for KnownWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KnownWay::Blocks => "blocks",
            KnownWay::Full => "full",
        })
    }
}

/// Why a release was not staged. The running slot is untouched, and the other one disarmed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The offer has no UKI for the slot.
    #[error("the offer has no UKI for slot {0}: publish the release again")]
    NoUki(contract::Slot),
    /// The EFI system partition has no room.
    #[error(
        "the EFI system partition has {free} bytes free and the UKI needs {needed}: \
         remove files that are not Slipway's from it"
    )]
    EspFull {
        /// What the UKI needs, in bytes.
        needed: u64,
        /// What is there, in bytes.
        free: u64,
    },
    /// The offer lists no way that this program knows.
    #[error(
        "the offer has no way for {0} that this slipwayd knows: \
         install an older release first, which brings a newer slipwayd"
    )]
    NoWay(Part),
    /// Every known way failed.
    #[error("cannot assemble {part}, way `{way}`{earlier}")]
    Ways {
        /// What was to be assembled.
        part: Part,
        /// The way that was tried last.
        way: KnownWay,
        /// The ways tried before it, each with its cause.
        earlier: Earlier,
        /// Why the last one failed.
        #[source]
        source: WayError,
    },
    /// A partition failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// What was written is not what is read.
    #[error(
        "{part} reads back other than it was written, from byte {offset} on: \
         the disk is failing, replace it"
    )]
    ReadBack {
        /// What was read.
        part: ReadBack,
        /// The first wrong block, in bytes.
        offset: u64,
    },
    /// What was staged is no longer what the offer names.
    #[error("{0} in the other slot has changed since it was staged")]
    Changed(Part),
    /// All is whole, and the firmware would not start it.
    #[error(transparent)]
    Firmware(#[from] SecureBootError),
    /// A thread of this program ended early.
    #[error("a thread of slipwayd ended early: report this, with the journal of the node")]
    Stopped,
}

/// What is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBack {
    /// The root or the UKI.
    Part(Part),
    /// The hash tree.
    Tree,
}

impl fmt::Display for ReadBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadBack::Part(part) => part.fmt(f),
            ReadBack::Tree => f.write_str("the hash tree"),
        }
    }
}

/// Ways that failed before the last one.
#[derive(Debug, Default)]
pub struct Earlier(pub(super) Vec<(KnownWay, WayError)>);

impl fmt::Display for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (way, error) in &self.0 {
            write!(f, ", after way `{way}`: {error}")?;
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

/// Reading or writing a partition failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {part}, at byte {offset}")]
pub struct DeviceError {
    /// The verb, such as `write`.
    pub doing: &'static str,
    /// What was read or written.
    pub part: ReadBack,
    /// Where, in bytes.
    pub offset: u64,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Why one way failed.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The network did not bring it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A frame has the digest that the offer names, and is wrong.
    #[error("frame {index} {what}: publish the release again")]
    Frame {
        /// Its number.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// All arrived, and the whole is not what the offer names.
    #[error("every piece arrived, and together they are not {0} of the offer")]
    WrongBytes(Part),
    /// A partition failed: no other way can help.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A thread of this program ended early.
    #[error("a thread of slipwayd ended early")]
    Stopped,
}

/// A blob that did not arrive.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {address} ({failures} failures in a row)")]
pub struct FetchError {
    /// The address that failed last, without credentials.
    pub address: String,
    /// Failures since the last piece that arrived.
    pub failures: u32,
    /// What the last failure was.
    #[source]
    pub source: Fault,
}

/// What went wrong with one request.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No mirror is known.
    #[error("no mirror is known: set `channel` in the node's settings")]
    NoMirror,
    /// Connection, TLS, redirect or HTTP failed.
    #[error("the connection failed")]
    Connection(#[source] ConnectionError),
    /// An answer that is no content.
    #[error("the server answers {0}")]
    Status(reqwest::StatusCode),
    /// The server ignores ranges.
    #[error("the server ignores ranges")]
    NoRange,
    /// An answer with other bytes than were asked for.
    #[error("the server was asked for bytes {asked} and answers `{answered}`")]
    WrongRange {
        /// `FIRST-LAST`.
        asked: String,
        /// Its Content-Range, shortened.
        answered: String,
    },
    /// Nothing came for a while.
    #[error("nothing arrived for {0} s")]
    Stalled(u64),
    /// Bytes came too slowly.
    #[error("only {bytes} bytes arrived in {seconds} s")]
    TooSlow {
        /// Bytes of the window.
        bytes: u64,
        /// Its length, in seconds.
        seconds: u64,
    },
    /// The answer ended early.
    #[error("the answer ended at byte {0}")]
    Truncated(u64),
    /// The bytes are not those of the offer.
    #[error("bytes {first} to {last} have another SHA-256 than the offer says")]
    Corrupt {
        /// First byte of the piece.
        first: u64,
        /// Last byte of the piece.
        last: u64,
    },
}
