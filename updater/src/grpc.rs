//! The few calls of containerd's API and of the container runtime interface that a node
//! needs, over a Unix socket.
//!
//! The messages hold only the fields that are used, with the numbers of containerd's
//! `api/services/{content,images,leases}/v1` and Kubernetes' `cri-api/runtime/v1`;
//! protobuf skips the others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// How long one call may take; the largest is one layer.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// Nobody listens.
    #[error("cannot reach {}: see `slipway node logs --unit containerd`", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the transport says.
        #[source]
        source: tonic::transport::Error,
    },
    /// A refusal.
    #[error("{call} was refused ({code}: {message}); see `slipway node logs --unit containerd`")]
    Refused {
        /// Such as `Images/Create`.
        call: &'static str,
        /// gRPC code.
        code: Code,
        /// What the other side says.
        message: String,
    },
    /// A text that cannot be sent as metadata.
    #[error("`{0}` cannot be a containerd namespace: use letters, digits and `.-_`")]
    Namespace(String),
}

/// Labels of a blob or an image. The order on the wire has no meaning.
pub type Labels = HashMap<String, String>;

/// A connection, with the metadata that every call carries.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    metadata: MetadataMap,
}

impl Client {
    /// Connects to the socket.
    ///
    /// # Errors
    /// [`GrpcError::Connect`] when nobody listens.
    pub async fn connect(socket: &Path) -> Result<Self, GrpcError> {
        let failed = |source| GrpcError::Connect { socket: socket.to_owned(), source };
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
        let endpoint = endpoint.map_err(failed)?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
        let channel = endpoint.connect().await.map_err(failed)?;
        Ok(Self { channel, metadata: MetadataMap::new() })
    }

    /// The same connection in a containerd namespace and under a lease, which keeps what is
    /// written from being collected.
    ///
    /// # Errors
    /// [`GrpcError::Namespace`].
    pub fn within(mut self, namespace: &str, lease: &str) -> Result<Self, GrpcError> {
        for (key, value) in [("containerd-namespace", namespace), ("containerd-lease", lease)] {
            let value = AsciiMetadataValue::try_from(value)
                .map_err(|_| GrpcError::Namespace(value.to_owned()))?;
            self.metadata.insert(key, value);
        }
        Ok(self)
    }

    /// One question, one answer; `path` is `/service/Method`.
    ///
    /// # Errors
    /// [`GrpcError::Refused`].
    pub async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, GrpcError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.stream(path, std::iter::once(question)).await
    }

    /// Several questions in a stream; gives the last answer.
    ///
    /// # Errors
    /// [`GrpcError::Refused`].
    pub async fn stream<Q, A>(
        &self,
        path: &'static str,
        questions: impl Iterator<Item = Q> + Send + 'static,
    ) -> Result<A, GrpcError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let refused = |status: Status| GrpcError::Refused {
            call: path,
            code: status.code(),
            message: status.message().chars().take(500).collect(),
        };
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| refused(Status::unavailable(error.to_string())))?;
        let mut request = Request::new(tokio_stream::iter(questions));
        *request.metadata_mut() = self.metadata.clone();
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.streaming(request, PathAndQuery::from_static(path), codec).await;
        let mut answers = answer.map_err(refused)?.into_inner();
        let mut last = A::default();
        while let Some(answer) = answers.message().await.map_err(refused)? {
            last = answer;
        }
        Ok(last)
    }
}

impl GrpcError {
    /// True when the other side answered with that code.
    pub fn is(&self, expected: Code) -> bool {
        matches!(self, GrpcError::Refused { code, .. } if *code == expected)
    }
}

/// Turns a refusal with that code into `None`.
///
/// # Errors
/// Every other refusal.
pub fn unless<T>(code: Code, result: Result<T, GrpcError>) -> Result<Option<T>, GrpcError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is(code) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Messages, named after their protobuf originals.
#[allow(missing_docs, reason = "described by the protobuf files that the module names")]
pub mod messages {
    use super::Labels;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Empty {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct FieldMask {
        #[prost(string, repeated, tag = "1")]
        pub paths: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Descriptor {
        #[prost(string, tag = "1")]
        pub media_type: String,
        #[prost(string, tag = "2")]
        pub digest: String,
        #[prost(int64, tag = "3")]
        pub size: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Image {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(map = "string, string", tag = "2")]
        pub labels: Labels,
        #[prost(message, optional, tag = "3")]
        pub target: Option<Descriptor>,
    }

    /// `GetImageRequest`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ImageName {
        #[prost(string, tag = "1")]
        pub name: String,
    }

    /// `CreateImageRequest`, `UpdateImageRequest`, and the responses, which carry an image
    /// in the same field.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ImageMessage {
        #[prost(message, optional, tag = "1")]
        pub image: Option<Image>,
        #[prost(message, optional, tag = "2")]
        pub update_mask: Option<FieldMask>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Info {
        #[prost(string, tag = "1")]
        pub digest: String,
        #[prost(int64, tag = "2")]
        pub size: i64,
        #[prost(map = "string, string", tag = "5")]
        pub labels: Labels,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct InfoRequest {
        #[prost(string, tag = "1")]
        pub digest: String,
    }

    /// `UpdateRequest` and `InfoResponse` of the content service.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct InfoMessage {
        #[prost(message, optional, tag = "1")]
        pub info: Option<Info>,
        #[prost(message, optional, tag = "2")]
        pub update_mask: Option<FieldMask>,
    }

    /// `WriteAction`.
    pub const WRITE: i32 = 1;
    /// `WriteAction`.
    pub const COMMIT: i32 = 2;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct WriteContentRequest {
        #[prost(int32, tag = "1")]
        pub action: i32,
        #[prost(string, tag = "2")]
        pub r#ref: String,
        #[prost(int64, tag = "3")]
        pub total: i64,
        #[prost(string, tag = "4")]
        pub expected: String,
        #[prost(int64, tag = "5")]
        pub offset: i64,
        #[prost(bytes = "vec", tag = "6")]
        pub data: Vec<u8>,
        #[prost(map = "string, string", tag = "7")]
        pub labels: Labels,
    }

    /// `CreateRequest` and `DeleteRequest` of the leases service.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct LeaseId {
        #[prost(string, tag = "1")]
        pub id: String,
    }

    /// Of the runtime service; the request without details is [`Empty`].
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StatusResponse {
        #[prost(message, optional, tag = "1")]
        pub status: Option<RuntimeStatus>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RuntimeStatus {
        #[prost(message, repeated, tag = "1")]
        pub conditions: Vec<RuntimeCondition>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RuntimeCondition {
        #[prost(string, tag = "1")]
        pub r#type: String,
        #[prost(bool, tag = "2")]
        pub status: bool,
        #[prost(string, tag = "3")]
        pub reason: String,
        #[prost(string, tag = "4")]
        pub message: String,
    }
}
