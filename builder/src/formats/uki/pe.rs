//! The few fields of a PE32+ file that appending sections and signing touch.
//!
//! **Invariant:** a [`PeLayout`] was made from a file whose headers lie inside it, so its
//! offsets can be used on that file.

use std::ops::Range;

/// Offset of the checksum in the optional header.
const HEADER_CHECKSUM: usize = 64;

const SECTION_HEADER: usize = 40;
const MAX_SECTIONS: usize = 96;

/// A file that is no PE32+ file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an EFI program (PE32+): {0}")]
pub struct InvalidPe(pub &'static str);

/// Where the header fields of a PE32+ file are.
#[derive(Debug, Clone)]
pub struct PeLayout {
    /// Offset of the COFF header.
    coff: usize,
    /// Offset of the optional header.
    pub optional: usize,
    section_headers: usize,
    /// Number of sections.
    pub section_count: usize,
    header_bytes: usize,
    /// Alignment of section data in the file.
    pub file_alignment: usize,
    end_of_sections: usize,
    end_of_memory: usize,
}

/// A section's name and place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeSection {
    /// Name without trailing zeros.
    pub name: String,
    /// Its bytes, without padding.
    pub range: Range<usize>,
    /// Its place in memory.
    pub memory: Range<usize>,
}

fn le16(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?).into())
}

fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    let value = u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?);
    usize::try_from(value).ok()
}

fn put32(file: &mut [u8], at: usize, value: usize) {
    if let Some(field) = file.get_mut(at..at + 4) {
        field.copy_from_slice(&(value as u32).to_le_bytes());
    }
}

impl PeLayout {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`InvalidPe`].
    pub fn parse(file: &[u8]) -> Result<Self, InvalidPe> {
        let short = InvalidPe("the headers are cut short");
        if file.get(..2) != Some(b"MZ") {
            return Err(InvalidPe("it does not begin with `MZ`"));
        }
        let signature = le32(file, 0x3c).ok_or(short)?;
        let coff = signature.checked_add(4).ok_or(short)?;
        if file.get(signature..coff) != Some(b"PE\0\0") {
            return Err(InvalidPe("it has no PE signature"));
        }
        let section_count = le16(file, coff + 2).ok_or(short)?;
        let optional_bytes = le16(file, coff + 16).ok_or(short)?;
        let optional = coff + 20;
        if le16(file, optional) != Some(0x20b) {
            return Err(InvalidPe("it is not 64-bit"));
        }
        let file_alignment = le32(file, optional + 36).ok_or(short)?;
        let header_bytes = le32(file, optional + 60).ok_or(short)?;
        let plausible = file_alignment.is_power_of_two()
            && (16..=65_536).contains(&file_alignment)
            && section_count <= MAX_SECTIONS
            && optional_bytes >= 152
            && header_bytes <= file.len();
        if !plausible {
            return Err(InvalidPe("its headers contradict themselves"));
        }
        let mut layout = Self {
            coff,
            optional,
            section_headers: optional + optional_bytes,
            section_count,
            header_bytes,
            file_alignment,
            end_of_sections: header_bytes,
            end_of_memory: 0,
        };
        for section in layout.sections(file)? {
            layout.end_of_memory = layout.end_of_memory.max(section.memory.end);
        }
        for index in 0..section_count {
            let at = layout.section_header(index);
            let raw = le32(file, at + 16).ok_or(short)?;
            let start = le32(file, at + 20).ok_or(short)?;
            layout.end_of_sections = layout.end_of_sections.max(start + raw);
        }
        if layout.end_of_sections > file.len() {
            return Err(InvalidPe("its sections are cut short"));
        }
        Ok(layout)
    }

    /// Offset of a section's header.
    pub fn section_header(&self, index: usize) -> usize {
        self.section_headers + index * SECTION_HEADER
    }

    /// Places for more section headers.
    pub fn free_section_headers(&self) -> usize {
        let used = self.section_header(self.section_count);
        self.header_bytes.saturating_sub(used) / SECTION_HEADER
    }

    /// First byte of the file behind all section data.
    pub fn end_of_sections(&self) -> usize {
        self.end_of_sections
    }

    /// First free byte of memory behind all sections.
    pub fn end_of_memory(&self) -> usize {
        self.end_of_memory
    }

    /// Offset of the certificate table's directory entry: file offset, then size.
    pub fn certificate_entry(&self) -> usize {
        self.optional + 112 + 4 * 8
    }

    /// All sections; each lies inside the file.
    ///
    /// # Errors
    /// [`InvalidPe`] when one does not.
    pub fn sections(&self, file: &[u8]) -> Result<Vec<PeSection>, InvalidPe> {
        let short = InvalidPe("a section is cut short");
        let mut sections = Vec::new();
        for index in 0..self.section_count {
            let at = self.section_header(index);
            let name = file.get(at..at + 8).ok_or(short)?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            let virtual_bytes = le32(file, at + 8).ok_or(short)?;
            let address = le32(file, at + 12).ok_or(short)?;
            let raw = le32(file, at + 16).ok_or(short)?;
            let start = le32(file, at + 20).ok_or(short)?;
            let range = start..start + raw.min(virtual_bytes);
            if range.end > file.len() {
                return Err(short);
            }
            let memory = address..address + virtual_bytes.max(raw);
            sections.push(PeSection { name, range, memory });
        }
        Ok(sections)
    }

    /// Sets the number of sections, in memory.
    pub fn set_section_count(&self, file: &mut [u8], count: usize) {
        if let Some(field) = file.get_mut(self.coff + 2..self.coff + 4) {
            field.copy_from_slice(&(count as u16).to_le_bytes());
        }
    }

    /// Removes the pointer to a COFF symbol table, in memory.
    pub fn drop_symbols(&self, file: &mut [u8]) {
        put32(file, self.coff + 8, 0);
        put32(file, self.coff + 12, 0);
    }

    /// Sets the image's size in memory (`SizeOfImage`).
    pub fn set_image_bytes(&self, file: &mut [u8], bytes: usize) {
        put32(file, self.optional + 56, bytes);
    }

    /// Points the certificate table's directory entry at `range`, in memory.
    pub fn set_certificates(&self, file: &mut [u8], range: Range<usize>) {
        put32(file, self.certificate_entry(), range.start);
        put32(file, self.certificate_entry() + 4, range.len());
    }

    /// The certificate table of a signed file; empty for an unsigned one.
    ///
    /// # Errors
    /// [`InvalidPe`] when it lies outside the file.
    pub fn certificates(&self, file: &[u8]) -> Result<Range<usize>, InvalidPe> {
        let short = InvalidPe("its certificate table is cut short");
        let start = le32(file, self.certificate_entry()).ok_or(short)?;
        let bytes = le32(file, self.certificate_entry() + 4).ok_or(short)?;
        if start + bytes > file.len() {
            return Err(short);
        }
        Ok(start..start + bytes)
    }
}

/// Computes the PE checksum over the whole file and writes it into the header, in memory.
///
/// # Errors
/// [`InvalidPe`] for a file without headers.
pub fn write_checksum(file: &mut [u8]) -> Result<(), InvalidPe> {
    let at = PeLayout::parse(file)?.optional + HEADER_CHECKSUM;
    put32(file, at, 0);
    // Sums of 16-bit words with end-around carry; a 64-bit sum cannot overflow here.
    let words = file.chunks(2).map(|pair| {
        u64::from(pair[0]) | (u64::from(pair.get(1).copied().unwrap_or_default()) << 8)
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    put32(file, at, sum as usize + file.len());
    Ok(())
}

#[cfg(test)]
pub mod tests {
    /// The smallest PE32+ file with one section and room for more.
    pub fn minimal_pe() -> Vec<u8> {
        let mut file = vec![0; 1536];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &64_u32.to_le_bytes());
        put(64, b"PE\0\0");
        put(68, &0x8664_u16.to_le_bytes());
        put(70, &1_u16.to_le_bytes());
        put(84, &240_u16.to_le_bytes());
        put(86, &0x0206_u16.to_le_bytes());
        let optional = 88;
        put(optional, &0x20b_u16.to_le_bytes());
        put(optional + 32, &4096_u32.to_le_bytes());
        put(optional + 36, &512_u32.to_le_bytes());
        put(optional + 56, &8192_u32.to_le_bytes());
        put(optional + 60, &1024_u32.to_le_bytes());
        put(optional + 68, &10_u16.to_le_bytes());
        put(optional + 108, &16_u32.to_le_bytes());
        let section = optional + 240;
        put(section, b".text");
        for (at, value) in [(8, 512_u32), (12, 4096), (16, 512), (20, 1024), (36, 0x6000_0020)] {
            put(section + at, &value.to_le_bytes());
        }
        file
    }
}
