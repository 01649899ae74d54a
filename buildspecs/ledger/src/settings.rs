//! The settings file, written by the deployer from the release's templates and the node's layers.

use serde::Deserialize;

/// Everything that differs between nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the node, shown by `/version`.
    pub node: String,
    /// Address to listen on.
    pub listen: String,
    /// Folder of the database.
    pub data: String,
    /// Currency of every payment.
    pub currency: String,
    /// Largest payment, in the currency's smallest unit.
    pub amount_max: i64,
}

impl Settings {
    /// Reads and checks the file.
    pub fn read(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let settings: Self = toml::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        if settings.amount_max <= 0 {
            return Err(format!("{path}: amount_max is {}, and must be above 0", settings.amount_max));
        }
        if settings.currency.len() != 3 || !settings.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(format!("{path}: currency `{}` is no three-letter code", settings.currency));
        }
        Ok(settings)
    }
}
