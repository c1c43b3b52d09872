//! The refs that a name may mean, and which of them counts.

use crate::api::names::Commit;

/// The search for one ref.
#[derive(Debug)]
pub(super) struct Search {
    /// What it may mean, the first that is there counts, with what was found.
    all: Vec<(String, Found)>,
}

#[derive(Debug, Default)]
struct Found {
    object: Option<Commit>,
    /// What an annotated tag leads to.
    peeled: Option<Commit>,
}

impl Search {
    /// In the order of gitrevisions(7): of one name, a tag before a branch. Absent: the default branch.
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

    /// The full names that are searched for.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(name, _)| name.as_str())
    }

    /// A ref of the repository. `name^{}` is what the tag `name` leads to.
    pub(super) fn note(&mut self, name: &str, object: Commit) {
        if let Some(tag) = name.strip_suffix("^{}") {
            self.note_peeled(tag, object);
        } else if let Some(found) = self.of(name) {
            found.object = Some(object);
        }
    }

    /// What a tag leads to.
    pub(super) fn note_peeled(&mut self, name: &str, object: Commit) {
        if let Some(found) = self.of(name) {
            found.peeled = Some(object);
        }
    }

    fn of(&mut self, name: &str) -> Option<&mut Found> {
        let mut all = self.all.iter_mut();
        all.find(|(it, _)| it == name).map(|(_, found)| found)
    }

    /// The commit, where one was found.
    pub(super) fn found(self) -> Option<Commit> {
        let mut all = self.all.into_iter();
        all.find_map(|(_, found)| found.object.map(|object| found.peeled.unwrap_or(object)))
    }
}
