//! The scopes of service tokens.

use std::borrow::Cow;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A part of what service tokens may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send to users and devices, take messages back, report the weather.
    Send,
    /// Send to every user.
    Broadcast,
    /// Look users up by name, read receipts, receive over the WebSocket.
    Read,
    /// Read the metrics.
    Metrics,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Send, Self::Broadcast, Self::Read, Self::Metrics];
    /// Their names, in the same order.
    const NAMES: [&'static str; 4] = ["send", "broadcast", "read", "metrics"];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

// Not derived: serde_json takes any other type than a string for malformed JSON there.
impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        let named = Self::ALL.into_iter().find(|scope| scope.name() == name);
        named.ok_or_else(|| D::Error::unknown_variant(&name, &Self::NAMES))
    }
}

/// A set of [`Scope`]s, encoded as the list of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);
    /// All scopes.
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);

    /// The set of that scope alone.
    pub const fn of(scope: Scope) -> Self {
        Self(1 << scope as u8)
    }

    /// Returns whether the sets have a scope in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns its scopes.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |&scope| self.intersects(Self::of(scope)))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, |all, scope| Self(all.0 | Self::of(scope).0))
    }
}

/// As alternatives, any one of which is enough: `"read" or "send"`.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, scope) in self.iter().enumerate() {
            write!(f, "{}\"{}\"", if n > 0 { " or " } else { "" }, scope.name())?;
        }
        Ok(())
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Scope>::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_is_encoded_as_the_names_of_its_scopes() {
        for (n, scope) in Scope::ALL.into_iter().enumerate() {
            assert_eq!((scope as usize, serde_json::to_value(scope).unwrap()), (n, scope.name().into()));
        }
        let all = r#"["send","broadcast","read","metrics"]"#;
        assert_eq!(serde_json::to_string(&Scopes::ALL).unwrap(), all);
        assert_eq!(serde_json::from_str::<Scopes>(all).unwrap(), Scopes::ALL);
        let some: Scopes = serde_json::from_str(r#"["metrics","send","send"]"#).unwrap();
        assert_eq!(some.iter().map(Scope::name).collect::<Vec<_>>(), ["send", "metrics"]);
        assert_eq!(some.to_string(), r#""send" or "metrics""#);
        assert!(some.intersects(Scopes::of(Scope::Send)) && !some.intersects(Scopes::of(Scope::Read)));
        assert!(!Scopes::NONE.intersects(Scopes::ALL));
        let unknown = serde_json::from_str::<Scopes>(r#"["root"]"#).unwrap_err().to_string();
        assert!(unknown.contains("unknown variant `root`, expected one of `send`, `broadcast`, `read`, `metrics`"), "{unknown}");
    }
}
