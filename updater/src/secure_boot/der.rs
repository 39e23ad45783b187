//! The few rules of DER (ITU-T X.690) that take a signature apart without understanding it.
//!
//! In: bytes that nobody vouches for. Out: elements, which borrow from them. **Invariant:** an
//! element lies inside of what it was read from; nothing is allocated, and nothing panics.

/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// OBJECT IDENTIFIER.
pub const IDENTIFIER: u8 = 0x06;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// SET.
pub const SET: u8 = 0x31;
/// `[0]`, constructed.
pub const CONTEXT_0: u8 = 0xa0;

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// Its tag.
    pub tag: u8,
    /// What is in it.
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

/// The first element, and what follows it.
pub fn first(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    // A tag of several bytes is in no signature.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = digits.iter().fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        // DER has no indefinite length.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let whole = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
    Some((Element { tag: *tag, content, whole }, rest))
}

/// The content of the first element, which must have this tag, and what follows it.
pub fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (element, rest) = first(bytes)?;
    (element.tag == tag).then_some((element.content, rest))
}

/// All elements in a row.
pub fn all(mut bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let (element, rest) = first(bytes)?;
        elements.push(element);
        bytes = rest;
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_apart() {
        let bytes = [0x30, 3, 2, 1, 5, 0x04, 0x81, 2, 7, 8];
        let [sequence, octets] = all(&bytes).unwrap()[..] else { panic!() };
        assert_eq!(sequence.whole, &bytes[..5]);
        assert_eq!(expect(sequence.content, INTEGER).unwrap(), (&[5][..], &[][..]));
        assert_eq!((octets.tag, octets.content), (4, &[7, 8][..]));
        assert_eq!(expect(&bytes, SET), None);
    }

    #[test]
    fn what_reaches_beyond_the_bytes_is_no_element() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x1f, 1, 1],
        ] {
            assert_eq!(first(bytes), None, "{bytes:x?}");
        }
    }
}
