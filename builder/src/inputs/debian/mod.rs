//! Debian packages: from a mirror's bytes to trees. In go signed indexes, a keyring and
//! package names; out come the records that fit ([`solve`]) and, once fetched, one tree for
//! each package ([`store::unpack_all`]).
//!
//! **Invariant:** nothing of a mirror is believed: indexes follow from an OpenPGP signature,
//! packages from the SHA-256 that a signed index gives.

pub mod date;
mod deb;
mod deb_error;
mod deb_stream;
#[cfg(test)]
mod deb_tests;
pub mod index;
pub mod relation;
pub mod release;
pub mod solve;
pub mod store;

pub use deb_error::DebError;
pub use release::ExpirationEnforcement;
pub use store::{UnpackError, Unpacked, unpack, unpack_all};
