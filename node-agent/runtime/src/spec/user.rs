//! Who a program runs as: from the container's settings, the image's user and the image's account files. Pure.
//!
//! The files come from strangers; the caller bounds their size (CVE-2025-4437, CVE-2026-47262).

use super::SpecError;
use crate::config::Security;

/// What setresuid(2) takes for "leave it as it is": nobody may have it.
const NO_ID: u32 = u32::MAX;

/// Who a program runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups, the first one too: without it a program that drops its group keeps less than it should (CVE-2022-2995).
    pub(crate) groups: Vec<u32>,
    /// Always known: nobody may have to ask libc, which would load NSS modules out of the image.
    pub(crate) home: String,
}

/// Lines of `/etc/passwd` and `/etc/group`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accounts<'a> {
    pub(crate) passwd: &'a str,
    pub(crate) group: &'a str,
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Accounts<'a> {
    fn accounts(self) -> impl Iterator<Item = Account<'a>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).unwrap_or_default();
            Some(Account { name, uid, gid, home })
        })
    }

    /// Name, id and members of each group.
    fn groups(self) -> impl Iterator<Item = (&'a str, u32, &'a str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }
}

/// The user of a container. What is a number is never looked up as a name (CVE-2026-46680).
pub(crate) fn find(
    security: &Security,
    image_user: &str,
    accounts: Accounts<'_>,
) -> Result<User, SpecError> {
    let (image_user, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let own = security.run_as_user.is_some() || !security.run_as_username.is_empty();
    let uid = match security.run_as_user {
        Some(uid) => uid,
        None if own => uid_of(&security.run_as_username, accounts)?,
        None if image_user.is_empty() => 0,
        None => uid_of(image_user, accounts)?,
    };
    let account = accounts.accounts().find(|account| account.uid == uid);
    let gid = match security.run_as_group {
        Some(gid) => gid,
        // The image's group belongs to the image's user.
        None if own || image_group.is_empty() => account.as_ref().map_or(0, |a| a.gid),
        None => match image_group.parse() {
            Ok(gid) => gid,
            Err(_) => accounts
                .groups()
                .find(|(name, ..)| *name == image_group)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| SpecError::NoGroup { group: image_group.to_owned() })?,
        },
    };
    let mut more = security.supplemental_groups.clone();
    if let Some(account) = account.as_ref().filter(|_| !security.supplemental_groups_strict) {
        let member = |members: &str| members.split(',').any(|member| member == account.name);
        more.extend(accounts.groups().filter(|(.., m)| member(m)).map(|(_, gid, _)| gid));
    }
    more.sort_unstable();
    more.dedup();
    more.retain(|group| *group != gid);
    if uid == NO_ID || gid == NO_ID || more.contains(&NO_ID) {
        return Err(SpecError::NoId);
    }
    let home = account.as_ref().map(|a| a.home).filter(|home| home.starts_with('/'));
    let groups = std::iter::once(gid).chain(more).collect();
    Ok(User { uid, gid, groups, home: home.unwrap_or("/").to_owned() })
}

fn uid_of(user: &str, accounts: Accounts<'_>) -> Result<u32, SpecError> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let account = accounts.accounts().find(|account| account.name == user);
    account.map(|a| a.uid).ok_or_else(|| SpecError::NoUser { user: user.to_owned() })
}
