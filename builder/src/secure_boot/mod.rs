//! secure_boot
