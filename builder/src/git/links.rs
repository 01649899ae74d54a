//! Where the symbolic links of a tree lead: inside, or refused. Pure.
//!
//! A link is resolved as the kernel would, with the tree's own links on the way, because `a/b/..` is not `a` where `b`
//! is a link. A link whose target does not exist is fine as long as the way to it stays inside.

use std::collections::BTreeMap;

use super::command::GitError;
use super::tree::refused;

/// Links on the way to one target; the kernel stops at the same number.
const HOPS_MAX: usize = 40;

/// Refuses links that are absolute or leave the tree. `links` holds every link's path and target.
pub(super) fn check(links: &BTreeMap<String, String>) -> Result<(), GitError> {
    for (path, target) in links {
        if target.is_empty() || target.contains('\0') {
            return Err(refused(path, "is a link without a target"));
        }
        let mut at: Vec<&str> = path.split('/').collect();
        at.pop();
        follow(links, at, target, &mut 0).map_err(|why| refused(path, why))?;
    }
    Ok(())
}

/// Walks `target` from the folder `at`; gives where it ends.
fn follow<'a>(
    links: &'a BTreeMap<String, String>,
    mut at: Vec<&'a str>,
    target: &'a str,
    hops: &mut usize,
) -> Result<Vec<&'a str>, &'static str> {
    *hops += 1;
    if *hops > HOPS_MAX {
        return Err("is a link that leads round in a circle, or over more than 40 links");
    }
    if target.starts_with('/') {
        return Err("is an absolute link");
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                at.pop().ok_or("is a link that leaves the tree")?;
            }
            part => {
                at.push(part);
                if let Some(next) = links.get(&at.join("/")) {
                    at.pop();
                    at = follow(links, at, next, hops)?;
                }
            }
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(links: &[(&str, &str)]) -> Result<(), String> {
        let links = links.iter().map(|(path, target)| ((*path).to_owned(), (*target).to_owned())).collect();
        check(&links).map_err(|error| error.to_string())
    }

    #[test]
    fn inside_links_pass() {
        verdict(&[("a", "b/c"), ("d/e/f", "../../x"), ("self", "."), ("dangling", "nowhere/at/all")]).unwrap();
    }

    #[test]
    fn leaving_links_are_refused_by_path() {
        assert_eq!(verdict(&[("a/b", "/etc/passwd")]).unwrap_err(), "`a/b`: is an absolute link");
        assert_eq!(verdict(&[("a/b", "../../x")]).unwrap_err(), "`a/b`: is a link that leaves the tree");
    }

    #[test]
    fn dots_after_a_link_follow_the_link() {
        // In the words of the path `p/q/up/../..` ends at `p`; really `up` is the root, and the rest leaves it.
        let error = verdict(&[("p/q/up", "../.."), ("p/q/out", "up/..")]).unwrap_err();
        assert_eq!(error, "`p/q/out`: is a link that leaves the tree");
    }

    #[test]
    fn circles_are_refused() {
        assert!(verdict(&[("a", "b"), ("b", "a")]).unwrap_err().contains("circle"));
    }
}
