//! Debian packages: from names to trees. In go package names, suites and a keyring; out
//! come a lock ([`lock_packages`]) and, once fetched, one tree for each package
//! ([`store::unpack_all`]).
//!
//! **Invariant:** nothing of a mirror is believed: indexes follow from an OpenPGP signature,
//! packages from the SHA-256 that a signed index gives.

pub mod apt_sources;
pub mod date;
mod deb;
mod deb_stream;
#[cfg(test)]
mod deb_tests;
pub mod index;
mod lock_packages;
pub mod mirror;
pub mod relation;
pub mod release;
pub mod solve;
pub mod store;

pub use deb::DebError;
pub use lock_packages::{LockError, LockRequest, lock_packages};
pub use mirror::Mirrors;
pub use release::ExpirationEnforcement;
pub use store::{UnpackError, Unpacked, unpack, unpack_all};
