//! What a person may wish for when going back: program, config and data, each for itself.
//! Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ids::{GenerationId, NotAName, TimelineId};

/// Which program, config and data a person wants. Unset fields have the defaults of `rollback::plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RollbackWish {
    /// This generation, whatever `binary` and `config` say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<GenerationId>,
    /// Program of the old or of the new side of the last switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<Side>,
    /// Config of the old or of the new side of the last switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Side>,
    /// Which data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataWish>,
}

/// A side of the last switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// What ran before it.
    Old,
    /// What it brought.
    New,
}

/// Which data a rollback serves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataWish {
    /// As they are now.
    Live,
    /// As they were before the last switch.
    Pre,
    /// As a left timeline ended.
    Timeline(TimelineId),
}

impl FromStr for DataWish {
    type Err = NotAName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "live" => Ok(Self::Live),
            "pre" => Ok(Self::Pre),
            other => other.parse().map(Self::Timeline),
        }
    }
}

impl TryFrom<String> for DataWish {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DataWish> for String {
    fn from(wish: DataWish) -> String {
        wish.to_string()
    }
}

impl fmt::Display for DataWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Pre => f.write_str("pre"),
            Self::Timeline(timeline) => timeline.fmt(f),
        }
    }
}
