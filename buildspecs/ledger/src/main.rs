//! A small ledger: takes payments, lists them, and never forgets one that it acknowledged.
//!
//! `ledger` serves; `ledger --check-config` reads its settings and ends.

mod http;
mod schema;
mod settings;
mod store;
mod version;

use std::process::ExitCode;

use settings::Settings;

const SETTINGS: &str = "/etc/ledger/ledger.toml";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ledger: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let path = std::env::var("LEDGER_SETTINGS").unwrap_or_else(|_| SETTINGS.to_owned());
    let settings = Settings::read(&path)?;
    if std::env::args().nth(1).as_deref() == Some("--check-config") {
        println!("{path}: fine; payments up to {} {}", settings.amount_max, settings.currency);
        return Ok(());
    }
    let store = store::Store::open(&settings.data)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(http::serve(settings, store))
}
