//! A cloud's metadata service, asked for the user data of this machine by its own protocol.
//!
//! In: the cloud. Out: bytes, or none. **Invariant:** the address is the one that these clouds
//! share, asked over plain HTTP without proxy, redirect or name; an answer is read up to a bound;
//! what it holds, and EC2's token, are in no message.
//!
//! Sources: "Use the Instance Metadata Service" of Amazon EC2 (version 2 alone, because version 1
//! answers whoever makes the node ask), "About VM metadata" of Compute Engine, "Azure Instance
//! Metadata Service", and "Metadata service" of OpenStack Nova.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contract::node::settings::MAX_SETTINGS_BYTES;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::Cloud;
use crate::effects::http::{self, BodyError, innermost};
use crate::effects::{ConnectionError, Http, Network, Request};
use crate::settings::sources::{MAX_USER_DATA_BYTES, behind_mark, settings_of};
use crate::settings::{NodeSettings, Origin, SettingsError};

/// Where all of them listen (RFC 3927 keeps it on the machine's own link).
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// How long an answer may take. It comes from the machine's host.
const LIMIT: Duration = Duration::from_secs(4);
/// Compute Engine's attribute for Slipway alone.
const ATTRIBUTE: &str = "slipway-settings";
/// Seconds that EC2's token is good for; it is used once.
const TOKEN_SECONDS: &str = "60";
const EC2_TOKEN_SECONDS: HeaderName =
    HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const EC2_TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const METADATA: HeaderName = HeaderName::from_static("metadata");
/// Longest token that is taken, in bytes; EC2's have 56.
const MAX_TOKEN_BYTES: usize = 1024;

/// Why a metadata service gave nothing, as what it does: "does not answer".
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Nobody is there, or not yet: the network of a machine needs a moment.
    #[error(
        "does not answer ({0}): it is asked again; see that the network is up by DHCP, and that \
         this machine may use the service"
    )]
    Silent(String),
    /// An answer that is neither user data nor their absence.
    #[error("answers {0} and no user data: see that it is switched on for this machine")]
    Refused(StatusCode),
    /// No token, or one that no header can hold.
    #[error("gives no token: see that version 2 of it (IMDSv2) is switched on for this machine")]
    Token,
    /// Compute Engine's service says who it is.
    #[error("answers without `Metadata-Flavor: Google`: something else is in its place")]
    Stranger,
    /// Longer than settings may be.
    #[error("gives over {0} bytes: settings have at most {MAX_SETTINGS_BYTES}, shorten them")]
    TooLarge(usize),
    /// Azure keeps user data in Base64.
    #[error("gives user data that are not Base64: set them anew")]
    Base64,
}

/// The metadata service of a machine.
#[derive(Debug, Clone)]
pub struct MetadataService {
    cloud: Cloud,
    address: SocketAddr,
}

/// User data, and what they are for.
enum UserData {
    /// For whatever program the machine has.
    Shared(Vec<u8>),
    /// For Slipway.
    Own(Vec<u8>),
}

impl MetadataService {
    /// The one of this machine; none when it is in no cloud.
    pub fn of_this_machine() -> Option<Self> {
        Cloud::of_this_machine().map(|cloud| Self { cloud, address: ADDRESS })
    }

    /// A stand-in.
    #[cfg(test)]
    pub(crate) fn at(cloud: Cloud, address: SocketAddr) -> Self {
        Self { cloud, address }
    }

    /// Whose it is.
    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// The settings in the machine's user data; none when it has no user data.
    ///
    /// # Errors
    /// [`SettingsError::Cloud`] when there is no answer that counts; [`SettingsError::UserData`]
    /// and [`SettingsError::Given`] when the user data are for something else, or refused.
    pub async fn settings(
        &self,
        network: &dyn Network,
    ) -> Result<Option<NodeSettings>, SettingsError> {
        let (cloud, origin) = (self.cloud, Origin::Cloud(self.cloud));
        let found = self.user_data(network).await;
        let given = match found.map_err(|problem| SettingsError::Cloud { cloud, problem })? {
            None => return Ok(None),
            Some(UserData::Shared(bytes)) => behind_mark(&bytes, origin)?.to_vec(),
            Some(UserData::Own(bytes)) => match behind_mark(&bytes, origin) {
                Ok(rest) => rest.to_vec(),
                Err(_) => bytes,
            },
        };
        settings_of(given, origin).map(Some)
    }

    async fn user_data(&self, network: &dyn Network) -> Result<Option<UserData>, MetadataError> {
        let client = network.metadata(LIMIT);
        let client = client.map_err(|error| MetadataError::Silent(innermost(&error)))?;
        let asked = Asked { service: self, client: client.as_ref() };
        match self.cloud {
            Cloud::AmazonEc2 => asked.amazon_ec2().await,
            Cloud::GoogleComputeEngine => asked.google_compute_engine().await,
            Cloud::Azure => asked.azure().await,
            Cloud::OpenStack => {
                let request = asked.get("/openstack/latest/user_data")?;
                Ok(asked.answer(request, MAX_USER_DATA_BYTES).await?.map(UserData::Shared))
            }
        }
    }
}

/// A service that is being asked.
struct Asked<'a> {
    service: &'a MetadataService,
    client: &'a dyn Http,
}

impl Asked<'_> {
    async fn amazon_ec2(&self) -> Result<Option<UserData>, MetadataError> {
        let request = Request::new(Method::PUT, self.at_path("/latest/api/token")?)
            .with(EC2_TOKEN_SECONDS, HeaderValue::from_static(TOKEN_SECONDS));
        let token = match self.answer(request, MAX_TOKEN_BYTES).await {
            Ok(token) => token.ok_or(MetadataError::Token)?,
            Err(MetadataError::Refused(_) | MetadataError::TooLarge(_)) => {
                return Err(MetadataError::Token);
            }
            Err(other) => return Err(other),
        };
        let mut token = HeaderValue::from_bytes(&token).map_err(|_| MetadataError::Token)?;
        token.set_sensitive(true);
        let request = self.get("/latest/user-data")?.with(EC2_TOKEN, token);
        Ok(self.answer(request, MAX_USER_DATA_BYTES).await?.map(UserData::Shared))
    }

    async fn google_compute_engine(&self) -> Result<Option<UserData>, MetadataError> {
        let kinds = [(ATTRIBUTE, UserData::Own as fn(_) -> _), ("user-data", UserData::Shared)];
        for (name, kind) in kinds {
            let path = format!("/computeMetadata/v1/instance/attributes/{name}");
            let request = self.get(&path)?.with(FLAVOR, HeaderValue::from_static("Google"));
            if let Some(bytes) = self.answer(request, MAX_USER_DATA_BYTES).await? {
                return Ok(Some(kind(bytes)));
            }
        }
        Ok(None)
    }

    async fn azure(&self) -> Result<Option<UserData>, MetadataError> {
        // The first version that has user data.
        let query = "api-version=2021-01-01&format=text";
        let path = format!("/metadata/instance/compute/userData?{query}");
        let request = self.get(&path)?.with(METADATA, HeaderValue::from_static("true"));
        // Base64 makes four of three.
        let most = MAX_USER_DATA_BYTES.div_ceil(3) * 4;
        let Some(text) = self.answer(request, most).await? else { return Ok(None) };
        let bytes = STANDARD.decode(text.trim_ascii()).map_err(|_| MetadataError::Base64)?;
        Ok(Some(UserData::Shared(bytes)))
    }

    fn at_path(&self, path: &str) -> Result<Url, MetadataError> {
        let text = format!("http://{}{path}", self.service.address);
        text.parse().map_err(|error| MetadataError::Silent(innermost(&error)))
    }

    fn get(&self, path: &str) -> Result<Request, MetadataError> {
        Ok(Request::get(self.at_path(path)?))
    }

    /// A body that is not empty; none where there is nothing.
    async fn answer(
        &self,
        request: Request,
        most: usize,
    ) -> Result<Option<Vec<u8>>, MetadataError> {
        let silent = |error: ConnectionError| MetadataError::Silent(innermost(&error));
        let answer = self.client.send(request).await.map_err(silent)?;
        let status = answer.status;
        // Azure says 410 for up to 70 seconds when it renews itself.
        let is_for_later = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::GONE;
        if is_for_later || status.is_server_error() {
            return Err(MetadataError::Silent(status.to_string()));
        }
        let flavor = answer.headers.get(FLAVOR).map(HeaderValue::as_bytes);
        if self.service.cloud == Cloud::GoogleComputeEngine && flavor != Some(b"Google") {
            return Err(MetadataError::Stranger);
        }
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            other => return Err(MetadataError::Refused(other)),
        }
        let body = http::bounded_body(answer, most).await.map_err(|error| match error {
            BodyError::TooLarge(most) => MetadataError::TooLarge(most),
            BodyError::Broken(error) => silent(error),
        })?;
        Ok(Some(body).filter(|body| !body.is_empty()))
    }
}
