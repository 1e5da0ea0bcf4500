//! The hub, as far as a download asks it.
//!
//! Endpoint (`HF_ENDPOINT`) and token (`HF_TOKEN`, or the file that `hf auth login` writes) are
//! hf-hub's to find. Its own cache is not used: it fetches a file from its start each time, takes an
//! error page for the file's content where only the second request fails, and does not hash.

use std::ops::Range;

use anyhow::{Context, anyhow, bail, ensure};
use flux::ManifestFile;
use futures_util::Stream;
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel, repository::RepoTreeEntry, split_id};
use printable::Printable;

/// A repository of models.
pub(super) struct Hub {
    client: HFClient,
    repository: HFRepository<RepoTypeModel>,
    id: String,
}

/// How the hub may be reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// By TLS, or on this machine.
    Secure,
    /// By plain `http://` too, as `--insecure-http` says.
    Insecure,
}

/// Forty lower-case hexadecimal digits; safe as a directory's name.
pub(super) struct Commit(String);

/// What the hub says of a file. It would say the SHA-256 of a large one too, under a name that
/// hf-hub does not read.
pub(super) struct Listed {
    pub(super) path: String,
    pub(super) bytes: u64,
}

impl Commit {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 40 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl Hub {
    /// `id` is `owner/name`.
    pub(super) fn new(id: &str, transport: Transport) -> anyhow::Result<Self> {
        let client = HFClient::builder().cache_enabled(false).build()?;
        let endpoint = client.endpoint();
        ensure!(
            transport == Transport::Insecure || !client::travels_in_clear_text(endpoint),
            "HF_ENDPOINT is {endpoint}: everyone on the way could read the token and change the \
             files; use https://, or --insecure-http if the way is yours alone"
        );
        let (owner, name) = split_id(id);
        let repository = client.model(owner, name);
        Ok(Self { client, repository, id: id.to_owned() })
    }

    /// Which commit a revision is.
    pub(super) async fn commit(&self, revision: &str) -> anyhow::Result<Commit> {
        let info = self.repository.info().revision(revision).send().await;
        let info = info.map_err(|error| self.explained(error, revision))?;
        let sha = info.sha.context("the hub did not say which commit that is")?;
        Commit::parse(&sha).with_context(|| format!("the hub names {sha:?}, which is no commit"))
    }

    /// What there is to know about files before they are fetched.
    pub(super) async fn listing(
        &self,
        commit: &Commit,
        files: &[&ManifestFile],
    ) -> anyhow::Result<Vec<Listed>> {
        let paths = files.iter().map(|file| file.path.clone()).collect();
        let asked = self.repository.get_paths_info().paths(paths).revision(commit.as_str());
        let entries = asked.send().await.map_err(|error| self.explained(error, commit.as_str()))?;
        let listed: Vec<Listed> = entries
            .into_iter()
            .filter_map(|entry| match entry {
                RepoTreeEntry::File { path, size, .. } => Some(Listed { path, bytes: size }),
                RepoTreeEntry::Directory { .. } => None,
            })
            .collect();
        if let Some(file) = files.iter().find(|file| listed.iter().all(|l| l.path != file.path)) {
            bail!("{} has no file {} at {}", self.id, file.path, commit.as_str());
        }
        Ok(listed)
    }

    /// A file's bytes: all of them, or a range.
    pub(super) async fn stream(
        &self,
        commit: &Commit,
        path: &str,
        range: Option<Range<u64>>,
    ) -> Result<impl Stream<Item = Result<impl AsRef<[u8]> + use<>, HFError>> + use<>, HFError>
    {
        let asked = self.repository.download_file_stream().filename(path);
        let (_, bytes) = asked.revision(commit.as_str()).maybe_range(range).send().await?;
        Ok(bytes)
    }

    /// An error in words that say what to do.
    pub(super) fn explained(&self, error: HFError, revision: &str) -> anyhow::Error {
        let (id, endpoint) = (&self.id, self.client.endpoint());
        let remedy = format!(
            "accept its licence at {endpoint}/{id}, make a token of the same account that may read \
             gated repositories, and set HF_TOKEN to it, or store it with `hf auth login`"
        );
        let what = match &error {
            HFError::AuthRequired { .. } => {
                format!(
                    "{endpoint} has no {id}, or does not show it without a valid token: {remedy}"
                )
            }
            HFError::Forbidden { .. } => format!("the token may not read {id}: {remedy}"),
            HFError::RepoNotFound { context, .. }
            | HFError::RevisionNotFound { context, .. }
            | HFError::EntryNotFound { context, .. } => {
                match context.as_ref().and_then(|context| context.error_code.as_deref()) {
                    Some("RepoNotFound") => format!("{endpoint} has no repository {id}"),
                    Some("EntryNotFound") => format!("{id} lacks a file at {revision}"),
                    _ => format!("{id} has no revision {revision}"),
                }
            }
            HFError::Request { source, .. } if source.is_connect() => {
                format!("{endpoint} cannot be reached")
            }
            HFError::Request { .. } => format!("the connection to {endpoint} failed"),
            _ => format!("{endpoint} did not serve {id}"),
        };
        match error {
            // hf-hub's own text has the address twice, and that of another host is signed.
            HFError::Request { source, .. } => anyhow!(source.without_url()),
            // It may quote what the hub said.
            error => anyhow!(Printable::of(&error)),
        }
        .context(what)
    }
}
