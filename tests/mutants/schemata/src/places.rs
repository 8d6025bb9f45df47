//! Where a switch can stand in a file: chains of operators, matches, struct expressions; and the
//! bodies of functions.
//!
//! Invariant: a chain of operators is one place, since a changed operator binds differently: what
//! stands in a switch is parsed whole. What is constant, or part of a `let` chain, has no place.

use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// What stands in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Operators with one or two operands, as far as they go.
    Operators,
    /// `match`.
    Match,
    /// `Name { .. }`.
    Struct,
}

/// An expression that a switch can replace.
pub struct Place {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub bytes: Range<usize>,
    /// Stands as a statement without a semicolon: no parentheses.
    pub statement: bool,
}

/// A function with a body.
pub struct Function {
    /// Its name, without its type's.
    pub name: String,
    /// Signature and body.
    pub bytes: Range<usize>,
    /// The first byte after the brace that opens the body.
    pub body: usize,
    /// The word `const`, if it is there.
    pub constant: Option<Range<usize>>,
    /// Gives `impl Trait`: no return of another type can be added.
    pub opaque: bool,
}

/// All of a file.
#[derive(Default)]
pub struct Places {
    /// In no order.
    pub places: Vec<Place>,
    /// In no order.
    pub functions: Vec<Function>,
}

fn bytes<T: Spanned>(part: &T) -> Range<usize> {
    part.span().byte_range()
}

fn has_let(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(e) => has_let(&e.left) || has_let(&e.right),
        _ => false,
    }
}

fn opaque(output: &syn::ReturnType) -> bool {
    struct Look(bool);
    impl<'ast> Visit<'ast> for Look {
        fn visit_type_impl_trait(&mut self, _: &'ast syn::TypeImplTrait) {
            self.0 = true;
        }
    }
    let mut look = Look(false);
    look.visit_return_type(output);
    look.0
}

impl Places {
    /// Looks through a file.
    pub fn of(source: &str) -> Result<Self, syn::Error> {
        let file = syn::parse_file(source)?;
        let mut all = Self::default();
        all.visit_file(&file);
        Ok(all)
    }

    /// The operands of a chain, without its own operators.
    fn operands(&mut self, expr: &syn::Expr) {
        match expr {
            syn::Expr::Binary(e) => {
                self.operands(&e.left);
                self.operands(&e.right);
            }
            syn::Expr::Unary(e) => self.operands(&e.expr),
            other => self.visit_expr(other),
        }
    }

    fn function(&mut self, sig: &syn::Signature, block: &syn::Block) {
        self.functions.push(Function {
            name: sig.ident.to_string(),
            bytes: bytes(&sig).start..bytes(&block).end,
            body: block.brace_token.span.open().byte_range().end,
            constant: sig.constness.as_ref().map(bytes),
            opaque: opaque(&sig.output),
        });
    }
}

impl<'ast> Visit<'ast> for Places {
    fn visit_expr(&mut self, expr: &'ast syn::Expr) {
        match expr {
            syn::Expr::Binary(e) if has_let(expr) => {
                self.visit_expr(&e.left);
                self.visit_expr(&e.right);
            }
            syn::Expr::Binary(_) | syn::Expr::Unary(_) => {
                self.places.push(Place {
                    kind: Kind::Operators,
                    bytes: bytes(&expr),
                    statement: false,
                });
                self.operands(expr);
            }
            syn::Expr::Match(_) => {
                self.places.push(Place {
                    kind: Kind::Match,
                    bytes: bytes(&expr),
                    statement: false,
                });
                visit::visit_expr(self, expr);
            }
            syn::Expr::Struct(_) => {
                self.places.push(Place {
                    kind: Kind::Struct,
                    bytes: bytes(&expr),
                    statement: false,
                });
                visit::visit_expr(self, expr);
            }
            // The length of an array is constant.
            syn::Expr::Repeat(e) => self.visit_expr(&e.expr),
            _ => visit::visit_expr(self, expr),
        }
    }

    fn visit_stmt(&mut self, stmt: &'ast syn::Stmt) {
        let before = self.places.len();
        visit::visit_stmt(self, stmt);
        if let syn::Stmt::Expr(syn::Expr::Match(_), None) = stmt {
            self.places[before].statement = true;
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}
