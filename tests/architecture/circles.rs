//! Circles between modules: two that import each other, perhaps by way of others, are one module in two
//! files.
//!
//! Only siblings are compared: what a module's own parts have to do with each other is theirs. A name that
//! a module hands on (`pub use`) counts as that of the module it is from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{
    Attribute, File, Item, ItemMod, ItemUse, UseTree,
    visit::{self, Visit},
};

/// Crates whose modules form no circle. The others have some, and are to lose them: flux, kernels, node,
/// obscura.
const WITHOUT: [&str; 8] =
    ["attest", "client", "engine", "printable", "protocol", "proxy", "seal", "wipe"];

#[test]
fn modules_import_each_other_in_one_direction() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    for name in WITHOUT {
        let crate_of = Crate::read(&crates.join(name).join("src"));
        let circle = circle(&crate_of.edges());
        assert!(circle.is_none(), "{name}: {}", circle.unwrap().join(" → "));
    }
}

#[test]
fn a_circle_is_found_through_names_that_are_handed_on() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("lib.rs", "mod a; mod b; mod c; pub use b::B;");
    write("a.rs", "pub struct A; fn f(_: crate::B) {}");
    write("b.rs", "use super::c; pub struct B;");
    write("c.rs", "#[cfg(test)] mod tests { use crate::a::A; }");
    let edges = || Crate::read(folder.path()).edges();
    assert_eq!(circle(&edges()), None);
    write("c.rs", "use crate::{a::{self}};");
    assert_eq!(circle(&edges()).unwrap().first(), circle(&edges()).unwrap().last());
    assert_eq!(circle(&edges()).unwrap().len(), 4);
}

/// Names from the crate's root to a module, or to what is in it.
type Names = Vec<String>;

/// A module, and the modules that it imports.
type Edges = BTreeMap<String, BTreeSet<String>>;

struct Crate {
    modules: BTreeMap<Names, Module>,
}

#[derive(Default)]
struct Module {
    /// What it names, from where it stands.
    paths: Vec<Names>,
    /// Names that it brings in, and what they stand for.
    imports: BTreeMap<String, Names>,
}

impl Crate {
    fn read(source: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut folders = vec![(source.to_owned(), Names::new())];
        while let Some((folder, names)) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let with = |name: String| names.iter().cloned().chain([name]).collect::<Names>();
                if path.is_dir() {
                    folders.push((path, with(stem)));
                } else if path.extension().is_some_and(|of| of == "rs") && stem != "tests" {
                    let own = match stem.as_str() {
                        "lib" | "main" | "mod" => names.clone(),
                        _ => with(stem),
                    };
                    let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
                    modules.insert(own, Module::of(&file));
                }
            }
        }
        Self { modules }
    }

    /// The module in which `names` end, seen from the module `from`; `None` where they leave the crate.
    fn resolve(&self, from: &[String], names: &[String], depth: usize) -> Option<Names> {
        let mut rest = names;
        let mut at: Names = match rest.first()?.as_str() {
            "crate" => {
                rest = &rest[1..];
                Names::new()
            }
            "self" => {
                rest = &rest[1..];
                from.to_vec()
            }
            "super" => {
                let ups = rest.iter().take_while(|name| *name == "super").count();
                rest = &rest[ups..];
                from[..from.len().checked_sub(ups)?].to_vec()
            }
            first => {
                let child: Names = from.iter().cloned().chain([first.to_owned()]).collect();
                self.modules.contains_key(&child).then(|| from.to_vec())?
            }
        };
        while let Some(name) = rest.first() {
            at.push(name.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                break;
            }
            rest = &rest[1..];
        }
        let handed_on = rest.first().and_then(|name| self.modules.get(&at)?.imports.get(name));
        if let Some(other) = handed_on
            && depth < 8
            && let Some(found) = self.resolve(&at, other, depth + 1)
        {
            return Some(found);
        }
        Some(at)
    }

    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (from, module) in &self.modules {
            for path in &module.paths {
                let Some(to) = self.resolve(from, path, 0) else { continue };
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if shared < from.len() && shared < to.len() {
                    let sibling = |names: &Names| names[..=shared].join("::");
                    edges.entry(sibling(from)).or_default().insert(sibling(&to));
                }
            }
        }
        edges
    }
}

/// Modules one after the other, each importing the next, the last of which is the first.
fn circle(edges: &Edges) -> Option<Vec<String>> {
    fn walk(at: &str, edges: &Edges, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if let Some(first) = way.iter().position(|before| before == at) {
            way.drain(..first);
            way.push(at.to_owned());
            return true;
        }
        if !done.insert(at.to_owned()) {
            return false;
        }
        way.push(at.to_owned());
        for next in edges.get(at).into_iter().flatten() {
            if walk(next, edges, way, done) {
                return true;
            }
        }
        way.pop();
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    edges.keys().any(|start| walk(start, edges, &mut way, &mut done)).then_some(way)
}

impl Module {
    fn of(file: &File) -> Self {
        let mut module = Self::default();
        module.visit_file(file);
        module
    }

    fn import(&mut self, tree: &UseTree, before: &Names) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Names>();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(path.ident.to_string())),
            UseTree::Name(name) if name.ident == "self" => self.imported(before.clone(), None),
            UseTree::Name(name) => self.imported(with(name.ident.to_string()), None),
            UseTree::Rename(name) => {
                self.imported(with(name.ident.to_string()), Some(name.rename.to_string()));
            }
            UseTree::Glob(_) => self.paths.push(before.clone()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before)),
        }
    }

    fn imported(&mut self, path: Names, name: Option<String>) {
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        self.imports.insert(name, path.clone());
        self.paths.push(path);
    }
}

impl<'ast> Visit<'ast> for Module {
    /// What is only there for tests has its own rules.
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(ItemMod { attrs, .. }) | Item::Use(ItemUse { attrs, .. }) => attrs,
            _ => &[],
        };
        let is_for_tests = attributes.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
        });
        if !is_for_tests {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, &Names::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 && ["crate", "self", "super"].contains(&names[0].as_str()) {
            self.paths.push(names);
        }
        visit::visit_path(self, path);
    }
}
