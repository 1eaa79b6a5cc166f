//! The value of `--store`.

use std::{fmt, path::PathBuf, str::FromStr};

use redis::{ConnectionInfo, IntoConnectionInfo};

/// Which store, and where.
#[derive(Clone)]
pub enum StoreUrl {
    /// `embedded:PATH`: a directory that this process alone uses.
    Embedded(PathBuf),
    /// `redis://[user:pass@]host:port[/db]`, or `rediss://` over TLS.
    Redis(Box<ConnectionInfo>),
}

/// A value of `--store` that names no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreUrlError {
    /// Its beginning is none of those known.
    #[error("takes embedded:PATH, redis://[user:pass@]host:port[/db] or rediss://…")]
    UnknownScheme,
    /// `embedded:` without a path.
    #[error("embedded: needs a path, as in embedded:./data")]
    NoPath,
    /// Not a URL that Redis clients understand.
    #[error("takes redis://[user:pass@]host:port[/db]: {0}")]
    Redis(#[from] redis::RedisError),
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(value: &str) -> Result<Self, StoreUrlError> {
        match value.split_once(':') {
            Some(("embedded", "")) => Err(StoreUrlError::NoPath),
            Some(("embedded", path)) => Ok(Self::Embedded(path.into())),
            Some(("redis" | "rediss", _)) => Ok(Self::Redis(Box::new(value.into_connection_info()?))),
            _ => Err(StoreUrlError::UnknownScheme),
        }
    }
}

/// Shows where the store is, never a password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => write!(f, "embedded:{}", path.display()),
            Self::Redis(info) => write!(f, "redis at {}", info.addr()),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_documentation_are_understood() {
        assert_eq!("embedded:./data".parse::<StoreUrl>().expect("valid").to_string(), "embedded:./data");
        let url = "redis://user:secret@cache.example:6380/2".parse::<StoreUrl>().expect("valid");
        assert_eq!(url.to_string(), "redis at cache.example:6380");
        assert!("rediss://cache.example:6380".parse::<StoreUrl>().is_ok());
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = "redis://user:secret@cache.example:6380".parse::<StoreUrl>().expect("valid");
        assert!(!format!("{url} {url:?}").contains("secret"));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for value in ["", "data", "mysql://x", "embedded:", "redis://:port:", "redis"] {
            let e = value.parse::<StoreUrl>().expect_err(value).to_string();
            assert!(e.contains("embedded:") || e.contains("redis://"), "{e}");
        }
    }
}
