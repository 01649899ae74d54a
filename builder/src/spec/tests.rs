//! Buildspecs as people write them, and as they misspell them.

use nebh_face::Exit;

use super::*;

const API: &str = "\
name: shop/api
build:
  rust: { bins: [shop-api] }
image:
  base: debian/trixie
  packages: [ca-certificates, curl/trixie-backports]
  entrypoint: [/usr/bin/shop-api]
  user: 65532
  env: { RUST_LOG: info, WORKERS: 4 }
  ports: [8080, 53/udp]
  stop-signal: TERM
";

fn wrong(text: &str) -> String {
    let failure = Buildspec::parse("buildspec.yaml", text).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    failure.to_string()
}

#[test]
fn twelve_lines_are_a_whole_service() {
    let spec = Buildspec::parse("buildspec.yaml", API).unwrap();
    assert_eq!(spec.name.as_str(), "shop/api");
    let rust = spec.rust().unwrap();
    assert_eq!(rust.bins[0].as_str(), "shop-api");
    assert_eq!(rust.toolchain.to_string(), "debian/trixie");
    assert_eq!(rust.profile.as_str(), "release");
    assert_eq!(spec.image.base.to_string(), "debian/trixie");
    assert_eq!(spec.image.packages[1].to_string(), "curl/trixie-backports");
    assert_eq!(spec.image.user.as_ref().unwrap().as_str(), "65532");
    assert_eq!(spec.image.env["WORKERS"], "4");
    assert_eq!(spec.image.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["8080/tcp", "53/udp"]);
    assert_eq!(spec.image.stop_signal.as_deref(), Some("SIGTERM"));
}

#[test]
fn image_of_packages_only_has_no_step() {
    let spec = Buildspec::parse("b", "name: web\nimage: { base: debian/trixie, packages: [nginx] }\n").unwrap();
    assert!(spec.steps.is_empty());
}

#[test]
fn files_step_copies_folders_with_or_without_a_slash() {
    let text =
        "name: web\nbuild:\n  files: { copy: [{ from: site/, to: /srv/web/ }] }\nimage: { base: debian/trixie }\n";
    let spec = Buildspec::parse("b", text).unwrap();
    let rule = &spec.files().unwrap().copy[0];
    assert_eq!((rule.from.as_str(), rule.to.as_str()), ("site", "/srv/web"));
}

#[test]
fn misspelt_fields_name_file_line_column_and_nearest() {
    assert_eq!(
        wrong(&API.replace("entrypoint", "entrypiont")),
        "buildspec.yaml:7:3: unknown field `entrypiont`\n  next: did you mean `entrypoint`?"
    );
    assert_eq!(
        wrong(&API.replace("rust: {", "rsut: {")),
        "buildspec.yaml:3:3: unknown field `rsut`\n  next: did you mean `rust`?"
    );
    assert_eq!(
        wrong(&API.replace("bins:", "bin:")),
        "buildspec.yaml:3:11: unknown field `bin`\n  next: did you mean `bins`?"
    );
}

#[test]
fn wrong_values_name_their_place() {
    for (from, to, expected) in [
        ("debian/trixie", "alpine/3", "5:9: `alpine/3` is not a base: this version knows `debian/<suite>`"),
        ("ca-certificates,", "Ca,", "6:14: `Ca` is not a package name: it starts with a lower-case letter or a digit"),
        ("curl/trixie-backports", "ca-certificates", "6:31: package `ca-certificates` is named twice"),
        ("user: 65532", "user: -1", "8:9: `-1` is not a user: write `65532`, `65532:65532` or `www-data`"),
        ("8080,", "80800,", "10:11: `80800` is not a port: write `8080`, `8080/tcp` or `53/udp`"),
        ("[shop-api]", "[]", "3:17: `bins` names no program"),
        ("[shop-api]", "[../x]", "3:18: `../x` is not a program name: it has letters, digits, `-` and `_` only"),
        ("name: shop/api", "name: Shop", "1:7: "),
    ] {
        let message = wrong(&API.replacen(from, to, 1));
        assert!(message.starts_with(&format!("buildspec.yaml:{expected}")), "{message}");
    }
    assert_eq!(
        wrong(&API.replace("TERM", "TEMR")),
        "buildspec.yaml:11:16: `TEMR` is not a signal\n  next: did you mean `TERM`?"
    );
}

#[test]
fn own_scripts_of_packages_are_refused_for_now() {
    let message = wrong(&format!("{API}  configure: true\n"));
    assert!(message.starts_with("buildspec.yaml:12:14: `configure: true`"), "{message}");
    Buildspec::parse("b", &format!("{API}  configure: false\n")).unwrap();
}

#[test]
fn paths_that_leave_the_project_are_refused() {
    for from in ["../x", "/etc", "a//b", "a/./b"] {
        let text = format!(
            "name: web\nbuild:\n  files: {{ copy: [{{ from: \"{from}\", to: /x }}] }}\nimage: {{ base: debian/trixie }}\n"
        );
        assert!(wrong(&text).contains("is not a path in the project"), "{from}");
    }
}
