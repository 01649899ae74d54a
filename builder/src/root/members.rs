//! The members of a foreign tar stream, one after another, with their long names taken together. Owns the decoding: what
//! is read is bounded before it is kept, whatever the headers announce.
//!
//! Two readers of one archive must not see two things in it. So a header that says a thing twice and differently is refused,
//! and so is every extension that only some readers know.

use std::io::{self, Read};

use super::limits::{Limits, TarTreeError, broken};

/// Bytes of one name, long ones too: what Linux takes as a path.
const NAME_BYTES_MAX: u64 = 4096;
/// Bytes of the PAX records of one member: names, ids and a few times.
const RECORDS_BYTES_MAX: u64 = 64 << 10;
/// Bytes around the content of one member: headers, padding, end marks.
const FRAME_BYTES: u64 = 4096;

/// One member. Its content is read from the stream that comes with it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) header: tar::Header,
    pub(super) path: String,
    pub(super) target: Option<String>,
    pub(super) size: u64,
}

/// What extension headers said about the member that follows them.
#[derive(Debug, Default)]
struct Told {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
}

impl Told {
    fn is_empty(&self) -> bool {
        let Self { path, target, size, uid, gid } = self;
        path.is_none() && target.is_none() && size.is_none() && uid.is_none() && gid.is_none()
    }
}

/// Gives every member of the stream to `take`. `archive` names the stream in errors.
pub(super) fn each(
    archive: &str,
    from: impl Read,
    limits: &Limits,
    mut take: impl FnMut(Member, &mut dyn Read) -> Result<(), TarTreeError>,
) -> Result<(), TarTreeError> {
    let odd = |what: &'static str| broken(archive)(io::Error::other(what));
    let left = limits.bytes.saturating_add((limits.entries as u64).saturating_mul(FRAME_BYTES));
    let mut stream = tar::Archive::new(Bounded { from, left });
    let mut told = Told::default();
    for (count, member) in stream.entries().map_err(broken(archive))?.raw(true).enumerate() {
        if count >= limits.entries {
            return Err(TarTreeError::Limit {
                member: archive.to_owned(),
                what: "entries",
                limit: limits.entries as u64,
            });
        }
        let mut member = member.map_err(broken(archive))?;
        match member.header().entry_type() {
            tar::EntryType::GNULongName => once(archive, &mut told.path, name(archive, &mut member)?)?,
            tar::EntryType::GNULongLink => once(archive, &mut told.target, name(archive, &mut member)?)?,
            tar::EntryType::XHeader => records(archive, &mut member, &mut told)?,
            _ => {
                let named = settle(archive, &member, std::mem::take(&mut told))?;
                take(named, &mut member)?;
            }
        }
    }
    if told.is_empty() { Ok(()) } else { Err(odd("it ends after a header that belongs to the next entry")) }
}

/// Header and extensions as one thing.
fn settle<R: Read>(archive: &str, member: &tar::Entry<'_, R>, told: Told) -> Result<Member, TarTreeError> {
    let odd = |what: &'static str| broken(archive)(io::Error::other(what));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| odd("a path is not UTF-8"));
    let mut header = member.header().clone();
    let size = header.size().map_err(broken(archive))?;
    if told.size.is_some_and(|other| other != size) {
        return Err(odd("an entry has two sizes"));
    }
    if let Some(uid) = told.uid {
        header.set_uid(uid);
    }
    if let Some(gid) = told.gid {
        header.set_gid(gid);
    }
    let path = text(told.path.unwrap_or_else(|| header.path_bytes().into_owned()))?;
    let target = told.target.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
    let target = target.map(text).transpose()?;
    Ok(Member { header, path, target, size })
}

fn name(archive: &str, member: &mut impl Read) -> Result<Vec<u8>, TarTreeError> {
    let mut bytes = small(archive, member, NAME_BYTES_MAX, "bytes of a name")?;
    // GNU's form ends with a NUL.
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn records(archive: &str, member: &mut impl Read, told: &mut Told) -> Result<(), TarTreeError> {
    let odd = |what: &'static str| broken(archive)(io::Error::other(what));
    let bytes = small(archive, member, RECORDS_BYTES_MAX, "bytes of records")?;
    for record in tar::PaxExtensions::new(&bytes) {
        let record = record.map_err(broken(archive))?;
        let value = record.value_bytes();
        let number =
            || record.value().ok().and_then(|text| text.parse().ok()).ok_or_else(|| odd("a record is no number"));
        match record.key_bytes() {
            b"path" => once(archive, &mut told.path, value.to_vec())?,
            b"linkpath" => once(archive, &mut told.target, value.to_vec())?,
            b"size" => once(archive, &mut told.size, number()?)?,
            b"uid" => once(archive, &mut told.uid, number()?)?,
            b"gid" => once(archive, &mut told.gid, number()?)?,
            key if key.starts_with(b"GNU.sparse") => return Err(odd("it has a sparse file")),
            // Times with fractions, comments, names of owners: nothing that a layer would show.
            _ => {}
        }
    }
    Ok(())
}

fn once<T: PartialEq>(archive: &str, place: &mut Option<T>, value: T) -> Result<(), TarTreeError> {
    match place {
        Some(there) if *there != value => Err(broken(archive)(io::Error::other("an entry is described twice"))),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

fn small(archive: &str, from: &mut impl Read, max: u64, what: &'static str) -> Result<Vec<u8>, TarTreeError> {
    let mut bytes = Vec::new();
    from.take(max + 1).read_to_end(&mut bytes).map_err(broken(archive))?;
    if bytes.len() as u64 > max {
        return Err(TarTreeError::Limit { member: archive.to_owned(), what, limit: max });
    }
    Ok(bytes)
}

/// Ends a stream that unpacks to more than was agreed on, even where nobody keeps it.
#[derive(Debug)]
struct Bounded<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more bytes than any package has"))?;
        Ok(count)
    }
}
