//! The refs that a name may mean, and which of them is used.

use crate::api::names::Commit;

/// The search for one ref.
#[derive(Debug)]
pub(super) struct Search {
    /// The candidates with what was found; the first one that exists is used.
    all: Vec<(String, Found)>,
}

#[derive(Debug, Default)]
struct Found {
    object: Option<Commit>,
    /// The commit that an annotated tag points to.
    peeled: Option<Commit>,
}

impl Search {
    /// Candidates in the order of gitrevisions(7), which prefers a tag to a branch of the same name. `None`: the default branch.
    pub(super) fn new(git_ref: Option<&str>) -> Self {
        let names = match git_ref {
            None | Some("HEAD") => vec!["HEAD".to_owned()],
            Some(whole) if whole.starts_with("refs/") => vec![whole.to_owned()],
            Some(name) => ["refs/", "refs/tags/", "refs/heads/"]
                .map(|place| format!("{place}{name}"))
                .into(),
        };
        let all = names.into_iter().map(|name| (name, Found::default()));
        Self { all: all.collect() }
    }

    /// The full names of the candidates.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(name, _)| name.as_str())
    }

    /// Notes a ref of the repository. `name^{}` is the commit that the tag `name` points to.
    pub(super) fn note(&mut self, name: &str, object: Commit) {
        if let Some(tag) = name.strip_suffix("^{}") {
            self.note_peeled(tag, object);
        } else if let Some(found) = self.candidate(name) {
            found.object = Some(object);
        }
    }

    /// Notes the commit that a tag points to.
    pub(super) fn note_peeled(&mut self, name: &str, object: Commit) {
        if let Some(found) = self.candidate(name) {
            found.peeled = Some(object);
        }
    }

    fn candidate(&mut self, name: &str) -> Option<&mut Found> {
        let mut all = self.all.iter_mut();
        all.find(|(candidate, _)| candidate == name)
            .map(|(_, found)| found)
    }

    /// The commit of the first candidate that was found.
    pub(super) fn found(self) -> Option<Commit> {
        let mut all = self.all.into_iter();
        all.find_map(|(_, found)| found.object.map(|object| found.peeled.unwrap_or(object)))
    }
}
