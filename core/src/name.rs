//! Names of things in the cluster, as types, so that a pool's name is never mistaken for a node's.
//!
//! All of them are cheap to clone: they are copied into every plan.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as Kubernetes writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<Arc<str>>> From<T> for $name {
            fn from(name: T) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// A Node's name.
    NodeName
}
name! {
    /// An IPAddressPool's name, unique because only one namespace is read.
    PoolName
}
name! {
    /// An L2Advertisement's name, unique for the same reason.
    AdvertisementName
}
name! {
    /// A BGPAdvertisement's name, unique for the same reason.
    BgpAdvertisementName
}
name! {
    /// A network interface's name, as the kernel has it.
    LinkName
}

/// A Service, as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name in that namespace.
    pub name: Arc<str>,
}

impl ServiceId {
    /// The Service `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
