//! The image as it boots.

mod first_boots;
mod flipped_byte_is_never_read;
mod unsigned_or_tampered_boot_files_do_not_boot;
