//! A strict reader of tar: ustar, PAX and GNU long names, and nothing that two readers would read differently. Pure.
//!
//! The `tar` crate parses the fields of a header; the walk from header to header is ours, because that is where the
//! attacks of the last years were (PAX size against ustar size, endless extension headers).

use std::collections::BTreeMap;
use std::io::Read;

use super::path::{MemberPath, escape};
use super::{Counted, UnpackError};
use crate::digest::Digest;

const BLOCK: usize = 512;
/// All extension headers of one member together. Names and attributes fit into a few KB; the kernel's own limit for one
/// attribute is 64 KiB.
const EXTENSION_SIZE_MAX: u64 = 1 << 20;
/// The largest size that fits into the octal field: beyond it, PAX must speak alone.
const USTAR_SIZE_MAX: u64 = 0o77_777_777_777;
/// The largest file that the system calls know. Headers can say more, in base 256.
const SIZE_MAX: u64 = i64::MAX as u64;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// The target is any text; the kernel resolves it below the root when somebody follows it.
    Symlink(Vec<u8>),
    HardLink(MemberPath),
    CharDevice,
    BlockDevice,
    Fifo,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) path: MemberPath,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) device: (u32, u32),
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Member {
    /// What is still needed when all members were made: not the attributes, which may be a MiB each.
    pub(super) fn metadata(&self) -> Self {
        Self { xattrs: BTreeMap::new(), ..self.clone() }
    }
}

pub(super) struct TarReader<R> {
    source: Counted<R>,
    depth_max: usize,
    /// Bytes of the current member not read yet, and the padding behind them.
    left: u64,
    padding: u64,
}

/// What PAX and GNU headers say about the member that follows.
#[derive(Default)]
struct Extensions {
    /// Bytes of them so far.
    size: u64,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(source: Counted<R>, depth_max: usize) -> Self {
        Self { source, depth_max, left: 0, padding: 0 }
    }

    /// The next member; the rest of the one before is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Member>, UnpackError> {
        let mut extensions = Extensions::default();
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = field(header.entry_size(), "size")?;
            match header.entry_type().as_byte() {
                b'x' => {
                    let records = self.extension(size, &mut extensions)?;
                    extend(&mut extensions.pax, &records)?;
                }
                b'g' => {
                    let mut global = BTreeMap::new();
                    extend(&mut global, &self.extension(size, &mut extensions)?)?;
                    if global.keys().any(|key| key != b"comment") {
                        return Err(malformed("a global PAX header that changes all members"));
                    }
                }
                b'L' => {
                    let name = self.extension(size, &mut extensions)?;
                    once(&mut extensions.long_name, name)?;
                }
                b'K' => {
                    let name = self.extension(size, &mut extensions)?;
                    once(&mut extensions.long_link, name)?;
                }
                kind => return self.member(&header, kind, size, extensions).map(Some),
            }
        }
    }

    /// Reads content of the current member.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(malformed("it ends in the middle of a member"));
        }
        self.left -= count as u64;
        Ok(count)
    }

    /// Reads what is behind the end mark, which must be nothing but zeros, and gives size and digest of all.
    pub(super) fn finish(mut self) -> Result<(u64, Digest), UnpackError> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = self.source.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            if buffer[..count].iter().any(|b| *b != 0) {
                return Err(malformed("there is something behind its end"));
            }
        }
        Ok((self.source.bytes, self.source.hasher.finish()))
    }

    fn pass_over(&mut self) -> Result<(), UnpackError> {
        let mut buffer = [0; BLOCK];
        self.left += std::mem::take(&mut self.padding);
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// The next header, or `None` at the end mark (or where the archive simply stops between members, as some do).
    fn header(&mut self) -> Result<Option<tar::Header>, UnpackError> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(malformed("it ends in the middle of a header")),
                count => filled += count,
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        // The checksum field itself counts as eight spaces.
        let sum: u32 =
            block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
        if field(header.cksum(), "checksum")? != sum {
            return Err(malformed("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    /// The content of an extension header, whole.
    fn extension(&mut self, size: u64, extensions: &mut Extensions) -> Result<Vec<u8>, UnpackError> {
        // Each counts for a block at least: empty ones without end are a flood too.
        extensions.size = extensions.size.saturating_add(size.max(BLOCK as u64));
        if extensions.size > EXTENSION_SIZE_MAX {
            let what = "the extension headers of one member";
            return Err(UnpackError::TooLarge { what, limit: EXTENSION_SIZE_MAX });
        }
        self.enter(size);
        let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut filled = 0;
        while filled < content.len() {
            filled += self.read(&mut content[filled..])?;
        }
        Ok(content)
    }

    fn enter(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn member(
        &mut self,
        header: &tar::Header,
        kind: u8,
        ustar_size: u64,
        extensions: Extensions,
    ) -> Result<Member, UnpackError> {
        let Extensions { mut pax, long_name, long_link, .. } = extensions;
        let name = one_of(pax.remove(b"path".as_slice()), long_name)?;
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = one_of(pax.remove(b"linkpath".as_slice()), long_link)?;
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
        let refuse = |why| Err(UnpackError::Refused { member: escape(&name), why });
        let size = match number(&mut pax, "size")? {
            Some(pax_size) if pax_size != ustar_size && pax_size <= USTAR_SIZE_MAX => {
                return refuse("its PAX and ustar headers give different sizes");
            }
            Some(pax_size) => pax_size,
            None => ustar_size,
        };
        if size > SIZE_MAX {
            return refuse("it is larger than any file");
        }
        let is_directory_by_name = name.ends_with(b"/");
        let kind = match kind {
            b'0' | b'7' | 0 if is_directory_by_name => Kind::Directory,
            b'0' | b'7' | 0 => Kind::File,
            b'1' => Kind::HardLink(MemberPath::parse(&link, self.depth_max)?),
            b'2' if link.is_empty() || link.contains(&0) => return refuse("its link target is empty or contains NUL"),
            b'2' => Kind::Symlink(link),
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => return refuse("sparse files are not read"),
            _ => return refuse("its type is unknown"),
        };
        if kind != Kind::File && size != 0 {
            return refuse("it is no file and yet has content");
        }
        if pax.keys().any(|key| key.starts_with(b"GNU.sparse.")) {
            return refuse("sparse files are not read");
        }
        let uid = number(&mut pax, "uid")?.map_or_else(|| field(header.uid(), "uid"), Ok)?;
        let gid = number(&mut pax, "gid")?.map_or_else(|| field(header.gid(), "gid"), Ok)?;
        let (Ok(uid), Ok(gid)) = (u32::try_from(uid), u32::try_from(gid)) else {
            return refuse("its owner does not fit into 32 bits");
        };
        let mtime = match pax.remove(b"mtime".as_slice()) {
            Some(text) => decimal_time(&text).ok_or_else(|| malformed("a PAX time is no number"))?,
            None => (i64::try_from(field(header.mtime(), "mtime")?).unwrap_or(i64::MAX), 0),
        };
        // Whoever writes FIFOs leaves these fields blank.
        let has_device = header.as_bytes()[329..345].iter().any(|b| *b != 0);
        let device = |number: std::io::Result<Option<u32>>| field(number, "device").map(Option::unwrap_or_default);
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice if has_device => {
                (device(header.device_major())?, device(header.device_minor())?)
            }
            _ => (0, 0),
        };
        let xattrs =
            pax.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value)));
        let xattrs = xattrs.collect();
        let path = MemberPath::parse(&name, self.depth_max)?;
        self.enter(size);
        let mode = field(header.mode(), "mode")? & 0o7777;
        Ok(Member { path, kind, size, mode, uid, gid, mtime, device, xattrs })
    }
}

fn malformed(why: &str) -> UnpackError {
    UnpackError::Malformed(why.to_owned())
}

fn field<T>(value: std::io::Result<T>, name: &str) -> Result<T, UnpackError> {
    value.map_err(|_| UnpackError::Malformed(format!("the {name} of a header is no number")))
}

/// GNU ends its long names with NUL.
fn once(slot: &mut Option<Vec<u8>>, mut name: Vec<u8>) -> Result<(), UnpackError> {
    if name.last() == Some(&0) {
        name.pop();
    }
    if slot.replace(name).is_some() {
        return Err(malformed("two long names for one member"));
    }
    Ok(())
}

fn one_of(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, UnpackError> {
    if pax.is_some() && gnu.is_some() {
        return Err(malformed("a PAX and a GNU long name for one member"));
    }
    Ok(pax.or(gnu))
}

/// PAX records: `<length> <key>=<value>\n`, the length counting itself.
fn extend(records: &mut BTreeMap<Vec<u8>, Vec<u8>>, mut content: &[u8]) -> Result<(), UnpackError> {
    while !content.is_empty() {
        let parse = || {
            let space = content.iter().position(|b| *b == b' ')?;
            // Digits only: a sign is read by some and not by others.
            let digits = std::str::from_utf8(&content[..space]).ok().filter(|text| is_digits(text))?;
            let length: usize = digits.parse().ok()?;
            let record = content.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|b| *b == b'=')?;
            Some((length, record[..equals].to_vec(), record[equals + 1..].to_vec()))
        };
        let (length, key, value) = parse().ok_or_else(|| malformed("a PAX record is broken"))?;
        content = &content[length..];
        if records.insert(key.clone(), value).is_some() {
            return Err(UnpackError::Malformed(format!("the PAX record `{}` stands twice", escape(&key))));
        }
    }
    Ok(())
}

fn number(pax: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &str) -> Result<Option<u64>, UnpackError> {
    let Some(value) = pax.remove(key.as_bytes()) else { return Ok(None) };
    let digits = std::str::from_utf8(&value).ok().filter(|text| is_digits(text));
    let number = digits.and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| UnpackError::Malformed(format!("the PAX record `{key}` is no number")))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// `-1.5` is one and a half seconds before the epoch: seconds -2 and half a second.
fn decimal_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !is_digits(fraction) || whole.starts_with('+') {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}
