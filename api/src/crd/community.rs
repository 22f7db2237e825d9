//! Community.

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{NothingReported, text_schema};

/// That a text is a community, in CEL: two numbers of 16 bits, or `large` and three of 32.
pub(super) const IS_A_COMMUNITY: &str = "(self.matches('^[0-9]{1,10}:[0-9]{1,10}$') && \
    self.split(':').all(part, int(part) < 65536)) || \
    (self.matches('^large(:[0-9]{1,10}){3}$') && \
    self.substring(6).split(':').all(part, int(part) < 4294967296))";

/// What stands beside the metadata: the spec, which may be absent (see `L2AdvertisementBody`).
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "Community",
    plural = "communities",
    namespaced,
    no_spec,
    status = "NothingReported",
    derive = "PartialEq",
    doc = "Community gives names to BGP communities, for BGPAdvertisements to use."
)]
pub struct CommunityBody {
    /// What it says.
    #[serde(default)]
    pub spec: CommunitySpec,
}

/// Names for communities. A name may be given once, in one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct CommunitySpec {
    /// Each name with what it stands for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "communities_schema")]
    pub communities: Vec<CommunityAlias>,
}

/// A name for a community.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct CommunityAlias {
    /// What BGPAdvertisements call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub name: String,

    /// The community: `64500:100` (RFC 1997), or `large:64500:1:2` (RFC 8092).
    #[schemars(schema_with = "value_schema")]
    pub value: String,
}

fn value_schema(_: &mut SchemaGenerator) -> Schema {
    let message = "invalid community value: must be 64500:100 or large:64500:1:2";
    text_schema(64, &[(IS_A_COMMUNITY, message)])
}

/// The bound on their number keeps the rule, whose cost grows with its square, within the server's budget.
fn communities_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 256,
        "items": CommunityAlias::json_schema(generator),
        "x-kubernetes-validations": [{
            "rule": "self.all(one, self.exists_one(other, \
                     (has(other.name) ? other.name : '') == (has(one.name) ? one.name : '')))",
            "message": "duplicate definition of community",
        }],
    })
}
