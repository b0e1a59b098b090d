//! What programs that embed the engine can name, in `public_api.txt`: a change of it is a decision, not an accident.
//!
//! `SKIMJIT_BLESS=1 cargo test -p skimjit --test public_api` records.

use quote::ToTokens;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};
use syn::{Fields, ImplItem, Item, ItemImpl, TraitItem, Visibility};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Tokens as one line, the way rustfmt would set them, or nearly.
fn line(tokens: impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    let glued = [
        (" :: ", "::"),
        (" , ", ", "),
        (" : ", ": "),
        ("& ", "&"),
        (" < ", "<"),
        (" >", ">"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        ("[ ", "["),
        (" ]", "]"),
    ];
    let text = glued
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to));
    text.replace("->", " -> ").replace("  ", " ")
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn type_name(item: &Item) -> Option<String> {
    match item {
        Item::Struct(item) if is_public(&item.vis) => Some(item.ident.to_string()),
        Item::Enum(item) if is_public(&item.vis) => Some(item.ident.to_string()),
        _ => None,
    }
}

/// The items of a module that can be reached, by the path that leads to them.
#[derive(Default)]
struct Listing {
    lines: Vec<String>,
    /// Public types, whose methods count.
    types: BTreeSet<String>,
}

impl Listing {
    fn module(&mut self, path: &str, file: &Path, folder: &Path) {
        let source =
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&source).unwrap();
        self.types.extend(parsed.items.iter().filter_map(type_name));
        for item in &parsed.items {
            self.item(path, item, folder);
        }
    }

    fn add(&mut self, path: &str, what: &str) {
        self.lines.push(format!("{path}: {what}"));
    }

    fn item(&mut self, path: &str, item: &Item, folder: &Path) {
        match item {
            Item::Mod(module) if is_public(&module.vis) && module.content.is_none() => {
                let name = module.ident.to_string();
                let (file, below) = found(folder, &name);
                self.module(&format!("{path}::{name}"), &file, &below);
            }
            Item::Use(item) if is_public(&item.vis) => {
                self.add(path, &format!("use {}", line(&item.tree)));
            }
            Item::Fn(item) if is_public(&item.vis) => self.add(path, &line(&item.sig)),
            Item::Const(item) if is_public(&item.vis) => {
                self.add(path, &format!("const {}: {}", item.ident, line(&item.ty)));
            }
            Item::Type(item) if is_public(&item.vis) => {
                self.add(path, &format!("type {} = {}", item.ident, line(&item.ty)));
            }
            Item::Struct(item) if is_public(&item.vis) => {
                self.add(
                    path,
                    &format!("struct {}{}", item.ident, line(&item.generics)),
                );
                self.fields(&format!("{path}::{}", item.ident), &item.fields);
            }
            Item::Enum(item) if is_public(&item.vis) => {
                let variants: Vec<String> = item
                    .variants
                    .iter()
                    .map(|variant| variant.ident.to_string())
                    .collect();
                self.add(
                    path,
                    &format!("enum {} {{ {} }}", item.ident, variants.join(", ")),
                );
            }
            Item::Trait(item) if is_public(&item.vis) => {
                self.add(path, &format!("trait {}", item.ident));
                for member in &item.items {
                    if let TraitItem::Fn(function) = member {
                        self.add(&format!("{path}::{}", item.ident), &line(&function.sig));
                    }
                }
            }
            Item::Impl(item) => self.methods(path, item),
            _ => {}
        }
    }

    fn fields(&mut self, path: &str, fields: &Fields) {
        for field in fields.iter().filter(|field| is_public(&field.vis)) {
            let name = field
                .ident
                .as_ref()
                .map_or("0".to_owned(), ToString::to_string);
            self.add(path, &format!("{name}: {}", line(&field.ty)));
        }
    }

    fn methods(&mut self, path: &str, item: &ItemImpl) {
        let of = format!("{path}::{}", line(&item.self_ty));
        let name = line(&item.self_ty);
        let name = name.split('<').next().unwrap_or_default();
        if item.trait_.is_some() || !self.types.contains(name) {
            return;
        }
        for member in &item.items {
            if let ImplItem::Fn(function) = member
                && is_public(&function.vis)
            {
                self.add(&of, &line(&function.sig));
            }
        }
    }
}

/// File of a module, and the folder of those inside it.
fn found(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let below = folder.join(name);
    let file = folder.join(format!("{name}.rs"));
    match file.exists() {
        true => (file, below),
        false => (below.join("mod.rs"), below),
    }
}

#[test]
fn the_public_items_are_those_recorded() {
    let mut listing = Listing::default();
    let source = root().join("src");
    listing.module("skimjit", &source.join("lib.rs"), &source);
    listing.lines.sort();
    let made = listing.lines.join("\n") + "\n";
    let file = root().join("tests/public_api.txt");
    if env::var_os("SKIMJIT_BLESS").is_some() {
        fs::write(&file, &made).unwrap();
    }
    let recorded = fs::read_to_string(&file).unwrap_or_default();
    let (old, new): (Vec<&str>, Vec<&str>) = (recorded.lines().collect(), made.lines().collect());
    let gone = old
        .iter()
        .filter(|line| !new.contains(line))
        .map(|line| format!("- {line}"));
    let come = new
        .iter()
        .filter(|line| !old.contains(line))
        .map(|line| format!("+ {line}"));
    let changes: Vec<String> = gone.chain(come).collect();
    assert!(
        recorded == made,
        "the public API changed; if that is meant, record it with SKIMJIT_BLESS=1:\n{}",
        changes.join("\n")
    );
}
