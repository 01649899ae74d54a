//! Somebody who commits, pushes and tags, and whose forge tells the build service until it is heard. A build that failed,
//! because what it needed was away for too long, is asked for again, as a person would.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::forge::Forge;
use crate::support::{Site, client, said, succeed};

/// Every so many commits one gets a version.
const RELEASE_EVERY: u32 = 3;
/// Looks at a build until it has to be done; a minute even when a whole storm of other tests runs beside it.
const LOOKS_MAX: u32 = 1200;
/// Times that a failed build is asked for again.
const TRIES_MAX: u32 = 20;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Deliveries that were acknowledged: reference and id, in order.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    pub(super) deliveries: Vec<(String, String)>,
    /// Why builds failed that were asked for again, and how often.
    pub(super) again: BTreeMap<String, u32>,
}

/// Works until it is told to stop.
pub(super) fn work(forge: &Forge, stop: &AtomicBool) -> Ordered {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut told, mut number) = (Ordered::default(), 0_u32);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let page = forge.folder().join("work/www/index.html");
        std::fs::write(page, format!("hello {number}\n")).expect("a file is written");
        forge.git("work", &["commit", "-q", "-a", "-m", &format!("page {number}")]);
        forge.git("work", &["push", "-q", "origin", "main"]);
        let mut references = vec!["refs/heads/main".to_owned()];
        if number.is_multiple_of(RELEASE_EVERY) {
            let version = format!("v1.0.{number}");
            forge.git("work", &["tag", &version]);
            forge.git("work", &["push", "-q", "origin", &version]);
            references.push(format!("refs/tags/{version}"));
        }
        for (at, reference) in references.into_iter().enumerate() {
            let delivery = format!("d{number}-{at}");
            runtime.block_on(heard(forge, &reference, &delivery));
            told.deliveries.push((reference, delivery.clone()));
            let (reference, _) = told.deliveries.last().expect("the last one");
            drop(runtime.block_on(done(forge, reference, &delivery, &mut told.again)));
        }
    }
    told
}

/// Sends a delivery again and again, as forges do, until there is an answer.
async fn heard(forge: &Forge, reference: &str, delivery: &str) {
    for _ in 0..LOOKS_MAX {
        if forge.deliver(reference, delivery).await.is_ok() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("delivery {delivery} is never taken");
}

/// Waits until the build of a delivery is done, asking again for one that failed; gives the build.
async fn done(
    forge: &Forge,
    reference: &str,
    delivery: &str,
    again: &mut BTreeMap<String, u32>,
) -> Result<Value, String> {
    let (mut last, mut tries) = ("no answer".to_owned(), 0);
    for _ in 0..LOOKS_MAX {
        match state(forge, reference, delivery).await {
            Ok(build) if build["state"] == "done" => return Ok(build),
            Ok(build) if build["state"] == "failed" => {
                let why =
                    build["failure"].as_str().unwrap_or("no reason").lines().next().unwrap_or_default().to_owned();
                let asked = forge.nebh(&["builder", "trigger", "shop/site", "--ref", reference]).output();
                let asked = asked.expect("a command");
                tries += 1;
                if tries > TRIES_MAX {
                    return Err(format!("{reference}, delivery {delivery}: failed {tries} times, last: {why}"));
                }
                if asked.status.success() {
                    *again.entry(why).or_insert(0) += 1;
                } else {
                    last = said(&asked);
                }
            }
            Ok(build) => last = build.to_string(),
            Err(why) => last = why,
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(format!("{reference}, delivery {delivery}: {last}"))
}

/// The build that an acknowledged delivery led to. The service has it in its ledger: that it asks nothing new of it is
/// what `replayed` says.
async fn state(forge: &Forge, reference: &str, delivery: &str) -> Result<Value, String> {
    let answer = forge.deliver(reference, delivery).await.map_err(|error| error.to_string())?;
    if answer["replayed"] != true {
        return Err(format!("the acknowledged delivery was forgotten: {answer}"));
    }
    let Some(id) = answer["build"].as_str() else { return Err(answer.to_string()) };
    let url = format!("http://127.0.0.1:{}/api/v1/builds/{id}", forge.port);
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    answer.json().await.map_err(|error| error.to_string())
}

/// What is missing of all that was ordered, and how many releases there are.
pub(super) async fn look(
    forge: &Forge,
    site: &Site,
    deliveries: &[(String, String)],
    again: &mut BTreeMap<String, u32>,
) -> (Vec<String>, usize) {
    let (address, client) = (site.address("shop/site"), client());
    let (mut missing, mut releases, mut ids) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (reference, delivery) in deliveries {
        let build = match done(forge, reference, delivery, again).await {
            Ok(build) => build,
            Err(why) => {
                missing.push(why);
                continue;
            }
        };
        let key = (build["ref"].to_string(), build["commit"].to_string());
        if let Some(other) = ids.insert(key, build["id"].clone()).filter(|other| *other != build["id"]) {
            missing.push(format!("{reference} was built twice: {other} and {}", build["id"]));
        }
        let outcome = &build["outcome"];
        // The branch's own tag has moved on since.
        let tags = outcome["tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut names: Vec<_> =
            tags.filter(|tag| *tag != "main").map(|tag| (tag.to_owned(), &outcome["image"])).collect();
        if let Some(version) = outcome["release"]["version"].as_str() {
            names.push((version.to_owned(), &outcome["release"]["digest"]));
            releases.push(version.to_owned());
        }
        for (tag, digest) in names {
            match client.manifest_by_tag(&address, &tag.parse().expect("a tag")).await {
                Ok(found) if *digest == found.digest().to_string() => {}
                Ok(found) => missing.push(format!("{reference}: tag {tag} is at {}, not {digest}", found.digest())),
                Err(error) => missing.push(format!("{reference}: tag {tag}: {error}")),
            }
        }
    }
    if let Some(last) = releases.last() {
        let show = ["channel", "show", "stable", "--repository", &address.to_string(), "--key", "releaser.pub"];
        let head = succeed(&mut forge.nebh(&show));
        if !head.contains(&format!("→ {last}")) {
            missing.push(format!("the channel is not at {last}: {head}"));
        }
    }
    (missing, releases.len())
}
