//! Users and groups: `etc/group`, `etc/passwd`, home directories, `etc/shadow`, `run-as`.
//!
//! Invariant: existing lines stay, in their order, before the configured ones; a file of a package
//! keeps its package, mode and mtime.

use super::{
    Build,
    passwd::{self, GroupLine, UserLine, lines, write_line},
};
use crate::apko::{
    behaviour::{Capability, GidRule},
    config::User,
    error::AssembleError,
    fs::{NodeId, path},
};

const STEP: &str = "accounts";

fn line_error(path: &str) -> impl Fn(passwd::LineError) -> AssembleError + '_ {
    move |error| AssembleError::step(STEP, format!("{path}, {error}"))
}

impl Build<'_> {
    pub(super) fn accounts(&mut self) -> Result<(), AssembleError> {
        self.config.accounts.fill_homes(&self.behaviour);
        if !self.config.accounts.groups.is_empty() {
            self.groups()?;
        }
        let users = self.users()?;
        self.homes(&users)?;
        if !self.config.accounts.users.is_empty() && self.behaviour.has(Capability::Shadow) {
            self.shadow()?;
        }
        let run_as = self.config.accounts.run_as.as_bytes();
        if !run_as.is_empty()
            && let Some(user) = users.iter().find(|user| user.name == run_as)
        {
            self.config.accounts.run_as = user.uid.to_string();
        }
        Ok(())
    }

    fn open_or_create(
        &mut self,
        path: &str,
        mode: u32,
    ) -> Result<(NodeId, Vec<u8>), AssembleError> {
        let id =
            self.tree.open(path.as_bytes(), Some(mode)).map_err(AssembleError::in_step(STEP))?;
        Ok((id, self.packages.read(self.tree, id)?))
    }

    fn groups(&mut self) -> Result<(), AssembleError> {
        let (id, before) = self.open_or_create("etc/group", 0o644)?;
        let mut groups = passwd::groups(&before).map_err(line_error("etc/group"))?;
        groups.extend(self.config.accounts.groups.iter().map(|group| GroupLine {
            name: group.groupname.clone().into_bytes(),
            password: b"x".to_vec(),
            gid: group.gid,
            members: group.members.join(",").into_bytes(),
        }));
        let mut out = Vec::new();
        groups.iter().for_each(|group| group.write(&mut out));
        self.tree.node_mut(id).data = out;
        Ok(())
    }

    fn users(&mut self) -> Result<Vec<UserLine>, AssembleError> {
        let (id, before) = self.open_or_create("etc/passwd", 0o644)?;
        let mut users = passwd::users(&before).map_err(line_error("etc/passwd"))?;
        for user in &self.config.accounts.users {
            users.push(self.user_line(user)?);
        }
        let mut out = Vec::new();
        users.iter().for_each(|user| user.write(&mut out));
        self.tree.node_mut(id).data = out;
        Ok(users)
    }

    fn user_line(&self, user: &User) -> Result<UserLine, AssembleError> {
        if user.uid == 0 || user.username.is_empty() {
            let detail = format!(
                "expected users with a name and a number above 0, found {:?} with {}",
                user.username, user.uid
            );
            return Err(AssembleError::step(STEP, detail));
        }
        let gid = match self.behaviour.gid_rule() {
            GidRule::ZeroIsUid => user.gid.filter(|gid| *gid != 0).unwrap_or(user.uid),
            GidRule::AbsentIsZero => user.gid.unwrap_or(0),
            GidRule::AbsentIsUid => user.gid.unwrap_or(user.uid),
        };
        let shell = if user.shell.is_empty() || !self.behaviour.has(Capability::UserShell) {
            "/bin/sh"
        } else {
            &user.shell
        };
        Ok(UserLine {
            name: user.username.clone().into_bytes(),
            password: b"x".to_vec(),
            uid: user.uid,
            gid,
            info: b"Account created by apko".to_vec(),
            home: user.homedir.clone().into_bytes(),
            shell: shell.as_bytes().to_vec(),
        })
    }

    /// Home directories of all users, those of packages too, where nothing is there yet.
    fn homes(&mut self, users: &[UserLine]) -> Result<(), AssembleError> {
        let in_step = AssembleError::in_step("home directories");
        for user in users {
            if user.home == b"/dev/null" || self.tree.exists(&user.home) {
                continue;
            }
            let (parent, _) = path::split(&user.home);
            self.tree.make_directories(&parent, 0o755).map_err(&in_step)?;
            let id = self.tree.make_directory(&user.home, 0o700).map_err(&in_step)?;
            let node = self.tree.node_mut(id);
            (node.uid, node.gid) = (user.uid, user.gid);
        }
        Ok(())
    }

    /// Existing lines without the day of the last change, then a locked one for each user.
    fn shadow(&mut self) -> Result<(), AssembleError> {
        let (id, before) = self.open_or_create("etc/shadow", 0o640)?;
        let mut out = Vec::new();
        for (index, line) in lines(&before).enumerate() {
            let line = line.map_err(line_error("etc/shadow"))?;
            let mut fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
            let last_change = fields.get_mut(2).ok_or_else(|| {
                line_error("etc/shadow")(passwd::LineError {
                    line: index + 1,
                    expected: "nine fields between colons",
                })
            })?;
            *last_change = b"";
            write_line(&mut out, &fields);
        }
        for user in &self.config.accounts.users {
            out.extend_from_slice(format!("{}:!:::::::\n", user.username).as_bytes());
        }
        self.tree.node_mut(id).data = out;
        Ok(())
    }
}
