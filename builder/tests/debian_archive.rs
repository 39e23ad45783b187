//! The Debian part against archives: one made here, with keys of its own, behind a loopback
//! web server that misbehaves on demand; and the real one, compared with apt and dpkg-deb.

// A test fails by panicking; the exception in clippy.toml covers only test functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "debian_archive/real.rs"]
mod real;

#[path = "debian_archive/attacks.rs"]
mod attacks;
#[path = "debian_archive/fixture.rs"]
mod fixture;
#[path = "debian_archive/golden.rs"]
mod golden;
