//! The recipes of a directory as they change: read again when a file changed, kept when a file became bad.
//!
//! A running app must not lose its recipe because someone saved half a line, so a file that no longer reads leaves the
//! recipe it gave before. A file that was removed takes its recipe along. Deliberately absent: watching; whoever needs
//! a recipe calls `refresh`, which asks the kernel for nothing but the files' stamps.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nbs_core::name::RuntimeName;
use nbs_core::recipe::Recipe;
use nix::unistd::Uid;

use super::file::toml_files;
use super::problem::{Origin, Problem};
use super::reader::Notes;
use super::{recipe, trust};

/// What changes when a file is written, replaced, chmodded or chowned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

#[derive(Debug)]
struct Seen {
    stamp: Option<Stamp>,
    /// The last recipe it gave, which is older than the file if the file is bad now.
    recipe: Option<Arc<Recipe>>,
    problems: Vec<Problem>,
}

/// The recipes of a directory.
#[derive(Debug)]
pub struct Catalogue {
    dir: PathBuf,
    daemon_uid: u32,
    dir_stamp: Option<Stamp>,
    files: BTreeMap<PathBuf, Seen>,
    /// Which file gives a runtime; it keeps it against a later file of the same name.
    owners: BTreeMap<RuntimeName, PathBuf>,
    recipes: Arc<BTreeMap<RuntimeName, Arc<Recipe>>>,
    dir_problems: Vec<Problem>,
    name_problems: Vec<Problem>,
}

impl Catalogue {
    /// Reads the directory for a daemon that runs as the present user.
    pub fn open(dir: &Path) -> Self {
        Self::open_as(dir, Uid::effective().as_raw())
    }

    /// The same for another user.
    pub(super) fn open_as(dir: &Path, daemon_uid: u32) -> Self {
        let mut catalogue = Self {
            dir: dir.into(),
            daemon_uid,
            dir_stamp: None,
            files: BTreeMap::new(),
            owners: BTreeMap::new(),
            recipes: Arc::default(),
            dir_problems: Vec::new(),
            name_problems: Vec::new(),
        };
        catalogue.read_dir();
        catalogue.read_files();
        catalogue.join();
        catalogue
    }

    /// Reads again what changed. Returns whether recipes or problems may differ from before.
    pub fn refresh(&mut self) -> bool {
        let stamp = fs::metadata(&self.dir).ok().map(|meta| Stamp::of(&meta));
        let mut changed = stamp != self.dir_stamp;
        if changed {
            self.read_dir();
        }
        changed |= self.read_files();
        if changed {
            self.join();
        }
        changed
    }

    /// The recipes; cheap to keep.
    pub fn recipes(&self) -> Arc<BTreeMap<RuntimeName, Arc<Recipe>>> {
        self.recipes.clone()
    }

    /// One recipe.
    pub fn get(&self, name: &RuntimeName) -> Option<Arc<Recipe>> {
        self.recipes.get(name).cloned()
    }

    /// The file that a recipe comes from.
    pub fn file_of(&self, name: &RuntimeName) -> Option<&Path> {
        self.owners.get(name).map(PathBuf::as_path)
    }

    /// Everything that is wrong now, file by file.
    pub fn problems(&self) -> Vec<Problem> {
        let of_files = self.files.values().flat_map(|seen| &seen.problems);
        self.dir_problems.iter().chain(of_files).chain(&self.name_problems).cloned().collect()
    }

    /// Finds out which files there are. A directory that cannot be trusted or read leaves all as it was.
    fn read_dir(&mut self) {
        self.dir_problems.clear();
        let origin = Origin::of_file(&self.dir);
        let meta = match fs::metadata(&self.dir) {
            Ok(meta) => meta,
            Err(error) => {
                self.dir_stamp = None;
                let (text, hint) = (format!("there are no recipes: {error}"), "make the directory, or set recipes_dir");
                self.dir_problems.push(Problem::warning(origin, "", text, hint));
                return;
            }
        };
        self.dir_stamp = Some(Stamp::of(&meta));
        if let Some(mistrust) = trust::mistrust(&meta, self.daemon_uid) {
            self.dir_problems.push(Problem::error(origin, "", mistrust.text, mistrust.hint));
            return;
        }
        let notes = Notes::default();
        let present = toml_files(&self.dir, &notes);
        let (_, problems) = notes.finish();
        if !problems.is_empty() {
            self.dir_problems = problems;
            return;
        }
        self.files.retain(|file, _| present.contains(file));
        for file in present {
            self.files.entry(file).or_insert(Seen { stamp: None, recipe: None, problems: Vec::new() });
        }
    }

    /// Reads the files whose stamp changed.
    fn read_files(&mut self) -> bool {
        let mut changed = false;
        for (file, seen) in &mut self.files {
            let stamp = fs::metadata(file).ok().map(|meta| Stamp::of(&meta));
            if stamp.is_some() && stamp == seen.stamp {
                continue;
            }
            // A link to nowhere has no stamp; it is told once, not at every refresh.
            if stamp.is_none() && seen.stamp.is_none() && !seen.problems.is_empty() {
                continue;
            }
            changed = true;
            let (recipe, problems) = recipe::load_as(file, self.daemon_uid);
            // The stamp from before the reading: a change in between shows at the next refresh.
            seen.stamp = stamp;
            seen.problems = problems;
            match recipe {
                // An equal recipe stays the same one, so that nobody takes it for a change.
                Some(new) if seen.recipe.as_deref() != Some(&new) => seen.recipe = Some(Arc::new(new)),
                _ => {}
            }
        }
        changed
    }

    /// Gives each name to one file: the one that had it, else the first.
    fn join(&mut self) {
        self.name_problems.clear();
        let mut owners: BTreeMap<RuntimeName, PathBuf> = BTreeMap::new();
        let gives = |file: &Path, name: &RuntimeName| {
            self.files.get(file).and_then(|seen| seen.recipe.as_ref()).is_some_and(|recipe| recipe.name == *name)
        };
        owners.extend(self.owners.iter().filter(|(name, file)| gives(file, name)).map(|(n, f)| (n.clone(), f.clone())));
        let mut recipes = BTreeMap::new();
        for (file, seen) in &self.files {
            let Some(recipe) = &seen.recipe else { continue };
            let owner = owners.entry(recipe.name.clone()).or_insert_with(|| file.clone());
            if owner == file {
                recipes.insert(recipe.name.clone(), recipe.clone());
            } else {
                let text = format!("{} has the name {:?} too, and is used", owner.display(), recipe.name);
                let hint = "rename one of them or remove it";
                self.name_problems.push(Problem::error(Origin::of_file(file), "name", text, hint));
            }
        }
        self.owners = owners;
        self.recipes = Arc::new(recipes);
    }
}
