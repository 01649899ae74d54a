//! What comes by each of the gateway's points: one thing done, its death, what is found afterwards, and the thing once more.

use std::io::Write;

use nebh_oci::digest::Digest;
use nebh_oci::manifest::RawManifest;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, ONE, OTHER, SHORT, Story, created, same};

impl Story {
    pub(super) fn scene(&mut self, point: &'static str) -> &'static str {
        match point {
            "upload-made" | "upload-appended" | "upload-closed" => self.in_chunks(point),
            "mount-written" | "mount-recorded" => self.mounted(point),
            "manifest-begun" | "manifest-written" | "tag-written" | "manifest-recorded" => self.moved_tag(point),
            "delete-written" | "delete-recorded" => self.deleted(point),
            "withdraw-written" | "withdraw-recorded" => self.withdrawn(point),
            "pin-written" | "pin-recorded" | "unpin-written" | "unpin-recorded" => self.pinned(point),
            "report-written" | "report-recorded" => self.reported(point),
            "retention-begun" | "retention-written" | "retention-recorded" => self.retained(point),
            "restore-written" | "restore-recorded" => self.restored(point),
            "sweep-uploads-gone" => self.expired(point),
            "sweep-forgotten-written" | "sweep-forgotten-recorded" => self.forgotten(point),
            "sweep-condemned-written" | "sweep-condemned-recorded" => self.condemned(point),
            "sweep-row-written" | "sweep-row-recorded" | "sweep-bytes-gone" => self.swept(point),
            "sweep-orphan-gone" => self.orphaned(point),
            "damage-written" | "damage-recorded" | "damage-kept" | "damage-unlinked" | "heal-set-aside" => {
                self.damaged(point)
            }
            point if point.starts_with("blob-") => self.pushed(point),
            point => panic!("no scene comes by the gateway's point {point}"),
        }
    }

    fn pushed(&mut self, point: &str) -> &'static str {
        let bytes = if point == "blob-folder-made" { self.bytes_of_a_new_folder() } else { self.bytes() };
        let digest = Digest::sha256(&bytes);
        self.dies(point, |story| story.push(ONE, &bytes));
        let found = self.blob(ONE, &digest);
        assert!(found.is_none() || found.as_ref() == Some(&bytes), "{point}: half a blob");
        assert_eq!(found.is_some(), point == "blob-recorded", "{point}");
        created(&self.push(ONE, &bytes), "the blob again");
        same(self.blob(ONE, &digest).as_deref(), Some(&bytes), point);
        if found.is_some() { "the blob is there" } else { "no blob" }
    }

    fn in_chunks(&mut self, point: &str) -> &'static str {
        let (bytes, sessions) = (self.bytes(), format!("/v2/{ONE}/blobs/uploads/"));
        let begun = (point != "upload-made").then(|| self.send(Method::POST, &sessions, b""));
        let place = begun.flatten().map(|(_, _, location)| location);
        let half = bytes.len() / 2;
        self.dies(point, |story| match (point, &place) {
            ("upload-appended", Some(place)) => story.send(Method::PATCH, place, &bytes[..half]),
            ("upload-closed", Some(place)) => story.send(Method::DELETE, place, b""),
            _ => story.send(Method::POST, &sessions, b""),
        });
        let left = place.and_then(|place| {
            let (status, _, range) = self.send(Method::GET, &place, b"")?;
            (status == StatusCode::NO_CONTENT).then_some((place, range))
        });
        assert!(point == "upload-appended" || left.is_none() || self.ground.cuts(), "{point}: a session from nowhere");
        let end = format!("digest={}", Digest::sha256(&bytes));
        if let Some((place, range)) = left {
            // The session goes on where it says that it stands; what a power cut took is found out by the digest.
            let has = range.rsplit('-').next().and_then(|last| last.parse::<usize>().ok()).map_or(0, |last| last + 1);
            let has = if has == 1 { 0 } else { has };
            let done = self.send(Method::PUT, &format!("{place}?{end}"), &bytes[has.min(bytes.len())..]);
            let status = done.expect("an answer").0;
            assert!(status == StatusCode::CREATED || self.ground.cuts(), "{point}: {status}");
            assert_eq!(self.blob(ONE, &Digest::sha256(&bytes)).is_some(), status == StatusCode::CREATED, "{point}");
            return "the session goes on";
        }
        let (_, _, place) = self.send(Method::POST, &sessions, b"").expect("a session");
        created(&self.send(Method::PUT, &format!("{place}?{end}"), &bytes), "the blob again");
        same(self.blob(ONE, &Digest::sha256(&bytes)).as_deref(), Some(&bytes), point);
        "no session"
    }

    fn mounted(&mut self, point: &str) -> &'static str {
        let bytes = self.bytes();
        let digest = Digest::sha256(&bytes);
        created(&self.push(ONE, &bytes), "a blob");
        let path = format!("/v2/{OTHER}/blobs/uploads/?mount={digest}&from={ONE}");
        self.dies(point, |story| story.send(Method::POST, &path, b""));
        let found = self.blob(OTHER, &digest).is_some();
        assert_eq!(found, point == "mount-recorded", "{point}");
        created(&self.send(Method::POST, &path, b""), "the mount again");
        same(self.blob(OTHER, &digest).as_deref(), Some(&bytes), point);
        if found { "mounted" } else { "not mounted" }
    }

    fn moved_tag(&mut self, point: &str) -> &'static str {
        let (old, new) = (self.image(ONE), self.image(ONE));
        self.tag(ONE, point, &old);
        self.dies(point, |story| story.put(ONE, point, &new));
        let moved = point == "manifest-recorded";
        let expected = if moved { &new } else { &old };
        same(self.tagged(ONE, point).as_deref(), Some(expected.bytes()), point);
        assert_eq!(self.tagged(ONE, &new.digest().to_string()).is_some(), moved, "{point}");
        self.tag(ONE, point, &new);
        self.forget_manifest(ONE, &old);
        if moved { "the new tag" } else { "the old tag" }
    }

    /// Takes a manifest without a tag away, so that its blobs can go.
    fn forget_manifest(&self, repository: &str, manifest: &RawManifest) {
        let path = format!("/v2/{repository}/manifests/{}", manifest.digest());
        let (status, ..) = self.send(Method::DELETE, &path, b"").expect("an answer");
        assert_eq!(status, StatusCode::ACCEPTED);
    }

    fn deleted(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.tag(ONE, "goes", &image);
        let path = format!("/v2/{ONE}/manifests/{}", image.digest());
        self.tags.remove(&(ONE, "goes".to_owned()));
        self.dies(point, |story| story.send(Method::DELETE, &path, b""));
        let there = self.tagged(ONE, "goes").is_some();
        assert_eq!(there, point == "delete-written", "{point}");
        assert_eq!(self.tagged(ONE, &image.digest().to_string()).is_some(), there, "{point}: tag and manifest differ");
        let (status, ..) = self.send(Method::DELETE, &path, b"").expect("an answer");
        assert_eq!(status, if there { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND }, "{point}");
        if there { "still there" } else { "gone" }
    }

    fn withdrawn(&mut self, point: &str) -> &'static str {
        let bytes = self.bytes();
        let digest = Digest::sha256(&bytes);
        created(&self.push(ONE, &bytes), "a blob");
        let path = format!("/v2/{ONE}/blobs/{digest}");
        self.dies(point, |story| story.send(Method::DELETE, &path, b""));
        let there = self.blob(ONE, &digest).is_some();
        assert_eq!(there, point == "withdraw-written", "{point}");
        created(&self.push(ONE, &bytes), "the blob again");
        if there { "still there" } else { "gone" }
    }

    fn pinned(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.tag(ONE, point, &image);
        let name = json!({ "repository": ONE, "name": point });
        let pin = json!({ "repository": ONE, "name": point, "reason": "a test" });
        let is_pin = point.starts_with("pin");
        if !is_pin {
            self.order("pins", &pin).expect("pinned");
        }
        let pins = |story: &Self| story.ask("pins").contains(&format!("\"{point}\""));
        self.dies(point, |story| if is_pin { story.order("pins", &pin) } else { story.order("unpin", &name) });
        let found = pins(self);
        assert_eq!(found, matches!(point, "pin-recorded" | "unpin-written"), "{point}");
        if found {
            let (status, ..) =
                self.send(Method::DELETE, &format!("/v2/{ONE}/manifests/{point}"), b"").expect("an answer");
            assert_eq!(status, StatusCode::FORBIDDEN, "{point}: a pin that does not hold");
        }
        self.order("pins", &pin).expect("pinned again");
        assert!(pins(self), "{point}");
        if found { "pinned" } else { "not pinned" }
    }

    fn reported(&mut self, point: &str) -> &'static str {
        let report = |role: &str| {
            let release = json!({ "release": Digest::sha256(b"r"), "version": "1.0.0", "role": role });
            json!({ "app": "shop/api", "repository": format!("127.0.0.1:1/{ONE}"), "releases": [release] })
        };
        self.order("hosts/n1/report", &report("before")).expect("reported");
        self.dies(point, |story| story.order("hosts/n1/report", &report(point)));
        let told = self.ask("hosts");
        let (old, new) = (told.contains("before"), told.contains(point));
        assert_eq!((old, new), (point == "report-written", point == "report-recorded"), "{told}");
        self.order("hosts/n1/report", &report("again")).expect("reported again");
        assert!(self.ask("hosts").contains("again"), "{point}");
        if new { "the new report" } else { "the old report" }
    }

    fn apply(&self) -> Answer {
        let plan: Value = serde_json::from_str(&self.ask("retention/plan")).expect("JSON");
        self.order("retention/apply", &json!({ "digest": plan["digest"], "confirm": true }))
    }

    /// Versions beyond the two that stay.
    fn four_versions(&mut self) -> [String; 4] {
        let names = [1, 2, 3, 4].map(|nth| format!("v{nth}-{}", self.fresh));
        for name in &names {
            let image = self.image(SHORT);
            self.tag(SHORT, name, &image);
        }
        names
    }

    fn forget_all_but(&mut self, kept: &[String]) {
        self.tags.retain(|(repository, name), _| *repository != SHORT || kept.contains(name));
    }

    fn retained(&mut self, point: &str) -> &'static str {
        let names = self.four_versions();
        self.dies(point, Story::apply_mut);
        let there: Vec<bool> = names.iter().map(|name| self.tagged(SHORT, name).is_some()).collect();
        let applied = point == "retention-recorded";
        assert_eq!(there, [!applied, !applied, true, true], "{point}");
        assert_eq!(self.apply().expect("an answer").0, StatusCode::OK, "{point}");
        assert!(self.tagged(SHORT, &names[0]).is_none() && self.tagged(SHORT, &names[3]).is_some(), "{point}");
        self.forget_all_but(&names[2..]);
        if applied { "applied whole" } else { "nothing applied" }
    }

    fn apply_mut(&mut self) -> Answer {
        self.apply()
    }

    fn restored(&mut self, point: &str) -> &'static str {
        let names = self.four_versions();
        assert_eq!(self.apply().expect("an answer").0, StatusCode::OK);
        let (kept, named) = (self.tags.clone(), json!({ "repository": SHORT, "name": names[1] }));
        self.forget_all_but(&names[2..]);
        self.dies(point, |story| story.order("retention/restore", &named));
        let there = self.tagged(SHORT, &names[1]).is_some();
        assert_eq!(there, point == "restore-recorded", "{point}");
        if !there {
            assert_eq!(self.order("retention/restore", &named).expect("an answer").0, StatusCode::OK, "{point}");
        }
        let key = (SHORT, names[1].clone());
        self.tags.insert(key.clone(), kept[&key].clone());
        self.whole(point);
        // Out of the way of the next scene's count.
        self.tags.remove(&key);
        assert_eq!(self.apply().expect("an answer").0, StatusCode::OK);
        let left: Vec<String> = names.iter().filter(|name| self.tagged(SHORT, name).is_some()).cloned().collect();
        self.tags = kept.into_iter().filter(|((at, name), _)| *at != SHORT || left.contains(name)).collect();
        if there { "restored whole" } else { "not restored" }
    }

    fn expired(&mut self, point: &str) -> &'static str {
        let (_, _, place) = self.send(Method::POST, &format!("/v2/{ONE}/blobs/uploads/"), b"").expect("a session");
        self.dies(point, |story| story.sweep());
        let (status, ..) = self.send(Method::GET, &place, b"").expect("an answer");
        assert!(status == StatusCode::NOT_FOUND || self.ground.cuts(), "{point}: {status}");
        "no session"
    }

    fn forgotten(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.tag(ONE, point, &image);
        self.tags.remove(&(ONE, point.to_owned()));
        self.forget_manifest(ONE, &image);
        self.dies(point, |story| story.sweep());
        assert!(self.tagged(ONE, &image.digest().to_string()).is_none(), "{point}: it was deleted before");
        // What it consisted of was not condemned yet: it comes back by an ordinary push of the manifest.
        self.tag(ONE, point, &image);
        self.whole(point);
        "gone, and pushed again"
    }

    fn condemned(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.dies(point, |story| story.sweep());
        // A push that meets condemned blobs takes the condemnation back.
        self.tag(ONE, point, &image);
        self.whole(point);
        "still there, and wanted again"
    }

    fn swept(&mut self, point: &str) -> &'static str {
        let bytes = self.bytes();
        let digest = Digest::sha256(&bytes);
        created(&self.push(ONE, &bytes), "a blob");
        self.sweep_done(1);
        self.dies(point, |story| story.sweep());
        let there = self.blob(ONE, &digest).is_some();
        assert_eq!(there, point == "sweep-row-written", "{point}");
        if !self.ground.cuts() {
            assert_eq!(self.file(&digest).exists(), point != "sweep-bytes-gone", "{point}: row first, bytes last");
        }
        created(&self.push(ONE, &bytes), "the blob again");
        same(self.blob(ONE, &digest).as_deref(), Some(&bytes), point);
        if there { "still there" } else { "gone" }
    }

    fn orphaned(&mut self, point: &str) -> &'static str {
        let bytes = self.bytes();
        let digest = Digest::sha256(&bytes);
        self.dies("blob-folder-synced", |story| story.push(ONE, &bytes));
        assert!(self.file(&digest).exists() && self.blob(ONE, &digest).is_none(), "bytes without a row");
        self.dies(point, |story| story.sweep());
        assert!(!self.file(&digest).exists() || self.ground.cuts(), "{point}");
        created(&self.push(ONE, &bytes), "the blob again");
        same(self.blob(ONE, &digest).as_deref(), Some(&bytes), point);
        "bytes without a row are gone"
    }

    fn damaged(&mut self, point: &str) -> &'static str {
        let image = self.image(ONE);
        self.tag(ONE, point, &image);
        let layer = image.image().expect("an image").layers[0].digest;
        let bytes = self.blobs[&layer].clone();
        let mut wrong = bytes.clone();
        wrong[7] ^= 1;
        let file = std::fs::File::create(self.file(&layer)).and_then(|mut file| {
            file.write_all(&wrong)?;
            file.sync_all()
        });
        file.expect("a blob is damaged");
        if point == "heal-set-aside" {
            same(self.blob(ONE, &layer).as_deref(), None, "damaged bytes were handed out");
            self.dies(point, |story| story.push(ONE, &bytes));
        } else {
            let path = format!("/v2/{ONE}/blobs/{layer}");
            self.dies(point, |story| story.send(Method::GET, &path, b""));
        }
        same(self.blob(ONE, &layer).as_deref(), None, "damaged bytes were handed out");
        created(&self.push(ONE, &bytes), "the blob again");
        same(self.blob(ONE, &layer).as_deref(), Some(&bytes), "not healed");
        "out of service, then healed"
    }
}
