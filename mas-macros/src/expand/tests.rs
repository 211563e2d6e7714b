//! What the output holds. That it compiles and runs is for the ui tests to show.

use quote::ToTokens;
use syn::{File, Item, parse_quote};

use super::*;

/// Expands, and reads the output as items.
fn expanded(args: TokenStream, item: TokenStream) -> Vec<Item> {
    let output = agent(args, item);
    let text = output.to_string();
    parse2::<File>(output)
        .unwrap_or_else(|error| panic!("{error} in {text}"))
        .items
}

/// The output as text.
fn text(args: TokenStream, item: TokenStream) -> String {
    agent(args, item).to_string()
}

/// The impl of the trait with this name.
fn impl_of<'a>(items: &'a [Item], name: &str) -> &'a ItemImpl {
    items
        .iter()
        .find_map(|item| match item {
            Item::Impl(item)
                if item.trait_.as_ref().is_some_and(|(path, _)| {
                    path.segments.last().is_some_and(|last| last.ident == name)
                }) =>
            {
                Some(item)
            }
            _ => None,
        })
        .unwrap_or_else(|| panic!("no impl of {name}"))
}

#[test]
fn a_struct_gets_its_ref_beside_it() {
    let item = quote!(
        pub(crate) struct Worker<T: Clone = u8>(T);
    );
    let items = expanded(quote!(), item.clone());
    assert_eq!(items[0].to_token_stream().to_string(), item.to_string());
    let Item::Struct(reference) = &items[1] else {
        panic!("the ref comes next")
    };
    let expected: ItemStruct = parse_quote!(
        struct A<T: Clone = u8>;
    );
    assert_eq!(reference.ident, "WorkerRef");
    assert_eq!(reference.vis.to_token_stream().to_string(), "pub (crate)");
    assert_eq!(
        reference.generics.to_token_stream().to_string(),
        expected.generics.to_token_stream().to_string()
    );
    for name in ["Clone", "Debug", "Deref", "From", "Declare"] {
        impl_of(&items, name);
    }
}

#[test]
fn every_path_is_absolute_or_the_users() {
    let handlers = quote! {
        impl Worker {
            #[on("a")] async fn a(&mut self, n: u8, ctx: &mut Context<Self>) -> Result<u8> {}
            #[on("b")] fn b(&self) -> impl Stream<Item = &'static str> {}
        }
    };
    let ours = text(quote!(), handlers.clone());
    assert!(ours.contains(":: mas :: private :: Message :: payload :: < u8 >"));
    let (ours_all, ours_absolute) = (
        ours.matches("mas :: private").count(),
        ours.matches(":: mas :: private").count(),
    );
    assert_eq!(ours_all, ours_absolute);
    let theirs = text(quote!(crate = "crate::facade"), handlers);
    assert!(theirs.contains("crate :: facade :: private :: Message"));
    assert!(!theirs.contains("mas :: private"));
}

#[test]
fn conditions_go_along_to_entries_arms_and_calls() {
    let text = text(
        quote!(),
        quote! {
            impl Worker {
                #[cfg(x)] #[on("a")] async fn a(&self) {}
            }
        },
    );
    // The method, its entry in the table, its arm, its typed call.
    assert_eq!(text.matches("# [cfg (x)]").count(), 4, "{text}");
}

#[test]
fn only_the_dispatchers_that_have_handlers_are_written() {
    let items = expanded(
        quote!(),
        quote!(impl Worker { #[on("a")] async fn a(&self) {} }),
    );
    let functions = impl_of(&items, "Agent")
        .items
        .iter()
        .filter(|item| matches!(item, syn::ImplItem::Fn(_)))
        .count();
    assert_eq!(functions, 1);
}

#[test]
fn after_a_fault_the_item_and_stand_ins_are_there() {
    let items = expanded(
        quote!(colour = "red"),
        quote!(
            struct Worker;
        ),
    );
    assert!(matches!(&items[0], Item::Struct(item) if item.ident == "Worker"));
    impl_of(&items, "Declare");
    assert_eq!(
        items
            .iter()
            .filter(|item| matches!(item, Item::Macro(_)))
            .count(),
        1
    );

    let items = expanded(
        quote!(),
        quote!(impl Worker { #[on("a")] fn a(&self, x: &str) -> u8 { 1 } }),
    );
    assert!(matches!(&items[0], Item::Impl(item) if item.items.len() == 1));
    assert!(
        impl_of(&items, "Agent")
            .items
            .iter()
            .all(|item| !matches!(item, syn::ImplItem::Fn(_)))
    );
    assert_eq!(
        items
            .iter()
            .filter(|item| matches!(item, Item::Macro(_)))
            .count(),
        2
    );
}

#[test]
fn what_is_no_item_comes_back_with_an_error() {
    let output = text(quote!(), quote!(let x = 1;));
    assert!(output.contains("let x = 1"));
    assert!(output.contains("compile_error"));
}

#[test]
fn a_lone_handler_keeps_its_method_and_reports_once() {
    let output = fallback::outside(
        "on(\"..\")",
        quote!(
            #[inline]
            #[on("b")]
            async fn a(&self) {}
        ),
    )
    .to_string();
    assert!(output.contains("# [inline] async fn a"), "{output}");
    assert_eq!(output.matches("compile_error").count(), 1);
}
