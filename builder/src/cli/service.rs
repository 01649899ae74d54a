//! `nebh builder`: the build service, and what one asks of it from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nebh_face::{Exit, Failure, Globals, Out};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use url::Url;

use crate::keys;
use crate::service::reference::RefName;
use crate::service::remote::Remote;
use crate::service::settings::Settings;
use crate::service::{Service, serve, webhook};

mod lines;

/// The build service.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Take webhooks, build what they speak of, sign it, push it. Settings: builder.yaml.
    Serve,
    /// List the builds, the newest first.
    List {
        /// Of this project only.
        #[arg(long)]
        project: Option<String>,
        /// Where the service is.
        #[command(flatten)]
        place: Place,
    },
    /// Print what a build said.
    Logs {
        /// Id of the build.
        id: String,
        /// Go on until it ends.
        #[arg(long, short = 'f')]
        follow: bool,
        /// Where the service is.
        #[command(flatten)]
        place: Place,
    },
    /// Ask for a build of what a branch or a tag points to now; again, if it failed.
    Trigger {
        /// The project.
        project: String,
        /// refs/heads/BRANCH, refs/tags/TAG, or the name of a branch.
        #[arg(long = "ref", value_name = "REF")]
        reference: String,
        /// File with the project's webhook secret; else the one of --settings.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// Where the service is.
        #[command(flatten)]
        place: Place,
    },
}

/// Where the service is.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Address of the service; else `listen` of --settings.
    #[arg(long, env = "NEBH_BUILDER_URL")]
    url: Option<Url>,
}

/// Runs it.
pub async fn run(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::Serve => start(globals).await,
        Command::List { project, place } => list(project.as_deref(), &place, globals).await,
        Command::Logs { id, follow, place } => logs(&id, follow, &place, globals).await,
        Command::Trigger { project, reference, secret_file, place } => {
            trigger(&project, &reference, secret_file, &place, globals).await
        }
    }
}

fn settings(globals: &Globals) -> Result<Settings, Failure> {
    let file = globals.settings.as_deref().ok_or_else(|| {
        Failure::new(Exit::Usage, "no settings").next("give --settings builder.yaml, or set NEBH_SETTINGS")
    })?;
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read {}", file.display())).because(&error))?;
    Settings::parse(file, &text)
}

async fn start(globals: &Globals) -> Result<(), Failure> {
    let settings = settings(globals)?;
    for project in settings.projects.values() {
        let text = keys::read_private(&project.secret_file, "webhook secret")?;
        if webhook::secrets(text.as_bytes()).is_empty() {
            let file = project.secret_file.display();
            return Err(Failure::new(Exit::Usage, format!("webhook secret {file} holds no usable secret"))
                .why(format!("a line of at least {} characters is one", webhook::SECRET_BYTES_MIN)));
        }
    }
    let maker = Arc::new(crate::service::maker::Pipeline::open(&settings)?);
    let listen = settings.listen;
    let projects = settings.projects.len();
    let service = Arc::new(Service::open(settings).await?);
    let listener = TcpListener::bind(listen).await;
    let listener =
        listener.map_err(|error| Failure::new(Exit::Failed, format!("cannot listen on {listen}")).because(&error))?;
    let at = listener.local_addr().unwrap_or(listen);
    let (stop, stopped) = watch::channel(false);
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [Ok(interrupt), Ok(terminate)] = &mut signals else {
        return Err(Failure::new(Exit::Failed, "cannot wait for signals"));
    };
    Out::new(globals).note(&format!("build service on http://{at} for {projects} projects"));
    let mut serving = std::pin::pin!(serve(service, maker, listener, stopped));
    tokio::select! {
        served = &mut serving => return served,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // A build that runs is given back; the next start begins it again.
    stop.send_replace(true);
    serving.await
}

impl Place {
    fn remote(&self, globals: &Globals) -> Result<Remote, Failure> {
        let url = match (&self.url, &globals.settings) {
            (Some(url), _) => url.clone(),
            (None, Some(_)) => {
                let listen = settings(globals)?.listen;
                Url::parse(&format!("http://{listen}"))
                    .map_err(|error| Failure::new(Exit::Usage, "`listen` makes no address").because(&error))?
            }
            (None, None) => {
                return Err(Failure::new(Exit::Usage, "no build service named")
                    .next("give --url http://HOST:PORT, set NEBH_BUILDER_URL, or give --settings builder.yaml"));
            }
        };
        Remote::new(url)
    }
}

async fn list(project: Option<&str>, place: &Place, globals: &Globals) -> Result<(), Failure> {
    let out = Out::new(globals);
    let builds = place.remote(globals)?.builds(project).await?;
    if builds.is_empty() {
        out.note("no builds");
    }
    for build in builds {
        out.result(&lines::build(&build), &build, build["id"].as_str().unwrap_or(""));
    }
    Ok(())
}

async fn logs(id: &str, follow: bool, place: &Place, globals: &Globals) -> Result<(), Failure> {
    let out = Out::new(globals);
    let mut events = place.remote(globals)?.events(id, follow).await?;
    while let Some(sent) = events.next().await? {
        let value: Value = serde_json::from_str(&sent.data).unwrap_or_default();
        if sent.name == "state" {
            return end(&value, out);
        }
        match lines::event(&value) {
            Some(text) => out.result(&text, &value, &text),
            None => out.json(&value),
        }
    }
    Ok(())
}

/// A followed build that failed is a failure here too, so that a script may wait for it.
fn end(build: &Value, out: Out) -> Result<(), Failure> {
    if let Some(failure) = build["failure"].as_str() {
        let id = build["id"].as_str().unwrap_or("");
        return Err(Failure::new(Exit::Failed, format!("build {id} failed")).why(failure.to_owned()));
    }
    out.result(&lines::build(build), build, build["outcome"]["image"].as_str().unwrap_or(""));
    Ok(())
}

async fn trigger(
    project: &str,
    reference: &str,
    secret_file: Option<PathBuf>,
    place: &Place,
    globals: &Globals,
) -> Result<(), Failure> {
    let named = if reference.starts_with("refs/") { reference.parse() } else { RefName::branch(reference) };
    let named = named.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let file = match (secret_file, &globals.settings) {
        (Some(file), _) => file,
        (None, Some(_)) => {
            let settings = settings(globals)?;
            let found = project.parse().ok().and_then(|name| settings.projects.get(&name));
            found
                .map(|project| project.secret_file.clone())
                .ok_or_else(|| Failure::new(Exit::Usage, format!("the settings have no project `{project}`")))?
        }
        (None, None) => {
            return Err(Failure::new(Exit::Usage, "a trigger is signed with the project's webhook secret")
                .next("give --secret-file FILE, or --settings builder.yaml"));
        }
    };
    let secret = first_secret(&file)?;
    let said = place.remote(globals)?.trigger(project, &named, &secret).await?;
    let out = Out::new(globals);
    match (said["build"].as_str(), said["ignored"].as_str()) {
        (Some(build), _) => out.result(&format!("build    {build}  {named}"), &said, build),
        (None, Some(reason)) => return Err(Failure::new(Exit::Failed, "nothing is built").why(reason.to_owned())),
        (None, None) => out.result("received; the repository did not answer yet and is asked again", &said, ""),
    }
    Ok(())
}

fn first_secret(file: &Path) -> Result<Vec<u8>, Failure> {
    let text = keys::read_private(file, "webhook secret")?;
    webhook::secrets(text.as_bytes())
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(Exit::Usage, format!("webhook secret {} holds no usable secret", file.display())))
}
