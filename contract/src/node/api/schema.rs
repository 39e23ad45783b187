//! How the newtypes of this crate look in an OpenAPI document: strings.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::{ChannelName, GroupName, ReleaseVersion, RootHash, Slot};

macro_rules! string_schema {
    ($type:ty, $description:literal, $pattern:expr) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let object = ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::String))
                    .description(Some($description))
                    .pattern($pattern);
                RefOr::T(Schema::Object(object.build()))
            }
        }

        impl ToSchema for $type {}
    };
}

string_schema!(ReleaseVersion, "SemVer without build metadata.", None::<String>);
string_schema!(RootHash, "dm-verity root hash.", Some("^[0-9a-f]{64}$"));
string_schema!(Slot, "One of the two slots.", Some("^[ab]$"));
string_schema!(ChannelName, "Name of a channel.", Some("^[a-z0-9-]{1,63}$"));
string_schema!(GroupName, "Name of a node group.", Some("^[a-z0-9-]{1,63}$"));
