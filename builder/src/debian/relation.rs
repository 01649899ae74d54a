//! Debian's relations between packages: `a (>= 1) | b, c:any`. Pure.

use std::cmp::Ordering;
use std::str::FromStr;

use debversion::Version;

/// Groups of one field; the largest metapackage has about 1,500.
const GROUPS_MAX: usize = 20_000;

/// How two versions have to stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// A demand on a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// How.
    pub operator: Operator,
    /// To what.
    pub version: Version,
}

impl Constraint {
    /// Whether a version fulfils it.
    pub fn admits(&self, version: &Version) -> bool {
        let order = version.cmp(&self.version);
        match self.operator {
            Operator::Earlier => order == Ordering::Less,
            Operator::EarlierOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::LaterOrEqual => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }
}

/// One package, perhaps of some versions only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The package, real or virtual.
    pub name: String,
    /// Which versions.
    pub constraint: Option<Constraint>,
}

/// Parses a field: groups of alternatives, all groups demanded.
///
/// `:any` and `:native` are dropped, for a set of packages has one architecture; an alternative of another architecture
/// can never be met and is left out.
pub fn parse_relations(field: &str) -> Result<Vec<Vec<Relation>>, String> {
    let mut groups = Vec::new();
    for group in field.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let mut alternatives = Vec::new();
        for text in group.split('|').map(str::trim) {
            let (relation, architecture) = parse_relation(text).ok_or_else(|| format!("`{text}`"))?;
            if matches!(architecture, "any" | "native") {
                alternatives.push(relation);
            }
        }
        groups.push(alternatives);
        if groups.len() > GROUPS_MAX {
            return Err(format!("more than {GROUPS_MAX} relations"));
        }
    }
    Ok(groups)
}

/// The relation and the architecture that it names, `any` if none.
fn parse_relation(text: &str) -> Option<(Relation, &str)> {
    let (head, constraint) = match text.split_once('(') {
        None => (text, None),
        Some((head, rest)) => (head, Some(parse_constraint(rest.trim_end().strip_suffix(')')?)?)),
    };
    let head = head.trim();
    let (name, architecture) = head.split_once(':').unwrap_or((head, "any"));
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    if name.is_empty() || !name.bytes().all(legal) {
        return None;
    }
    Some((Relation { name: name.to_owned(), constraint }, architecture))
}

fn parse_constraint(text: &str) -> Option<Constraint> {
    let text = text.trim();
    // The longest first; `<` and `>` alone are an old way to write `<=` and `>=`.
    let operators = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
        ("<", Operator::EarlierOrEqual),
        (">", Operator::LaterOrEqual),
    ];
    let (rest, operator) = operators.iter().find_map(|(sign, operator)| Some((text.strip_prefix(sign)?, *operator)))?;
    Some(Constraint { operator, version: Version::from_str(rest.trim()).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(left: &str, right: &str) -> Ordering {
        Version::from_str(left).unwrap().cmp(&Version::from_str(right).unwrap())
    }

    #[test]
    fn versions_stand_as_dpkg_says() {
        // Each pair was asked of `dpkg --compare-versions`.
        for (earlier, later) in [
            ("1.0", "1.1"),
            ("1.0~rc1", "1.0"),
            ("1.0~~", "1.0~"),
            ("1.0", "1.0+b1"),
            ("1.0-1", "1.0-1+deb13u1"),
            ("1.0-1~bpo13+1", "1.0-1"),
            ("1.9", "1.10"),
            ("2.0", "1:1.0"),
            ("1.0a", "1.0b"),
            ("1.0a", "1.0+"),
            ("1.0-1", "1.0-2"),
            ("1.0-9", "1.0-10"),
            ("9", "10"),
            ("1.2.3", "1.2.3.0"),
            ("1.0+dfsg", "1.0+dfsg1"),
            ("1.0+dfsg-1", "1.0+really0.9-1"),
            ("0", "0.0"),
        ] {
            assert_eq!(order(earlier, later), Ordering::Less, "{earlier} {later}");
            assert_eq!(order(later, earlier), Ordering::Greater, "{later} {earlier}");
        }
        for (one, other) in [("1.0", "1.0-0"), ("0:1.0", "1.0"), ("1.01", "1.1"), ("1.0-01", "1.0-1")] {
            assert_eq!(order(one, other), Ordering::Equal, "{one} {other}");
        }
    }

    #[test]
    fn relations_have_groups_alternatives_and_versions() {
        let groups =
            parse_relations("libc6 (>= 2.38), default-mta | mail-transport-agent, perl:any, x:i386 | y").unwrap();
        let names: Vec<Vec<&str>> =
            groups.iter().map(|group| group.iter().map(|one| one.name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["libc6"], vec!["default-mta", "mail-transport-agent"], vec!["perl"], vec!["y"]]);
        let constraint = groups[0][0].constraint.as_ref().unwrap();
        assert!(constraint.admits(&"2.41-1".parse().unwrap()));
        assert!(!constraint.admits(&"2.37".parse().unwrap()));
    }

    #[test]
    fn what_is_no_relation_is_refused() {
        for text in ["a (>= 1", "a (1)", "a b", "(>= 1)", "a (>= )"] {
            assert!(parse_relations(text).is_err(), "{text}");
        }
    }
}
