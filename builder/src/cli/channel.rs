//! `nebh channel`: the signed head that hosts follow.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use nebh_face::{Exit, Failure, Globals, Out};
use nebh_oci::names::{Reference, RepositoryAddress, Tag};
use nebh_trust::channel::{ChannelHead, HeadRelease};
use nebh_trust::key::PublicKey;
use nebh_trust::release::read_release;
use serde_json::json;

use super::signer::{SignArgs, names};
use crate::{channel, keys, registry};

/// Channels.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Point a channel to a release. Going back to an old one is a new head.
    Set(SetArgs),
    /// Print a channel's head.
    Show {
        /// Name of the channel.
        name: String,
        /// Repository of the releases, HOST/REPOSITORY.
        #[arg(long)]
        repository: RepositoryAddress,
        /// Public key that has to have signed it; may stand there several times.
        #[arg(long, value_name = "PUB", required = true)]
        key: Vec<PathBuf>,
    },
}

/// Arguments of `set`.
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// Name of the channel.
    name: String,
    /// Version of the release.
    #[arg(long, value_name = "RELEASE")]
    to: Tag,
    /// Repository of the releases, HOST/REPOSITORY.
    #[arg(long)]
    repository: RepositoryAddress,
    /// How long hosts believe this head, e.g. 30d, 12h.
    #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = span)]
    expires: SignedDuration,
    /// Keys.
    #[command(flatten)]
    keys: SignArgs,
}

fn span(text: &str) -> Result<SignedDuration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: i64 = digits.parse().map_err(|_| "write a number and d, h or m, e.g. 30d".to_owned())?;
    let seconds = match &text[digits.len()..] {
        "d" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        _ => return Err("write a number and d, h or m, e.g. 30d".to_owned()),
    };
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0);
    seconds.map(SignedDuration::from_secs).ok_or_else(|| "no such span".to_owned())
}

/// Runs it.
pub async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::Set(args) => set(&args, globals).await,
        Command::Show { name, repository, key } => {
            let keys: Vec<PublicKey> = key.iter().map(|file| keys::open_public(file)).collect::<Result<_, _>>()?;
            let head = channel::show(&registry::client()?, &repository, &name, &keys).await?;
            let head = head.ok_or_else(|| {
                Failure::new(Exit::Failed, format!("{repository} has no channel `{name}`"))
                    .next(format!("nebh channel set {name} --to VERSION --repository {repository} --sign-with KEY"))
            })?;
            report(&head, "signed by a key given", globals);
            Ok(())
        }
    }
}

async fn set(args: &SetArgs, globals: &Globals) -> Result<(), Failure> {
    let keys = args.keys.open_some()?;
    let client = registry::client()?;
    let reference = Reference::new(args.repository.clone(), Some(args.to.clone()), None);
    let index = registry::resolve(&client, &reference).await?;
    let release = read_release(&index)
        .map_err(|error| Failure::new(Exit::Usage, format!("{reference} is no release")).because(&error))?;
    let request = channel::Request {
        to: &args.repository,
        channel: &args.name,
        release: HeadRelease { version: release.version.to_string(), digest: release.digest },
        keys: &keys,
        expiry: args.expires,
        now: Timestamp::now(),
        if_changed: false,
    };
    let head = channel::set(&client, &request).await?;
    report(&head, &format!("signed by {}", names(&keys)), globals);
    Ok(())
}

fn report(head: &ChannelHead, signed: &str, globals: &Globals) {
    let text = format!(
        "channel  {} #{} → {} {}  believed until {}  {signed}",
        head.channel, head.counter, head.current.version, head.current.digest, head.expires
    );
    let mut value = json!({ "version": 1, "kind": "channel" });
    value["head"] = serde_json::to_value(head).unwrap_or_default();
    Out::new(globals).result(&text, &value, &head.counter.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_days_hours_or_minutes() {
        assert_eq!(span("30d"), Ok(SignedDuration::from_hours(720)));
        assert_eq!(span("90m"), Ok(SignedDuration::from_mins(90)));
        for wrong in ["", "30", "d", "0d", "-1d", "1w", "99999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
