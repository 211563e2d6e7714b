//! What the model makes of items, and which faults it finds in them.

use quote::{ToTokens, quote};
use syn::parse_quote;

use super::params::Param;
use super::reply::Reply;
use super::*;

/// Reads an impl block.
fn read(item: ItemImpl) -> (Option<Block>, Vec<String>) {
    let mut faults = Faults::default();
    let block = Block::new(TokenStream::new(), item, &mut faults).ok();
    (block, faults.texts())
}

/// Reads a block that is fine.
fn block(item: ItemImpl) -> Block {
    let (block, faults) = read(item);
    assert_eq!(faults, Vec::<String>::new());
    block.expect("a block without faults")
}

/// The one fault of a block with this method.
fn fault(method: ImplItem) -> String {
    let (_, faults) = read(parse_quote!(impl Worker { #method }));
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.into_iter().next().unwrap_or_default()
}

#[test]
fn handlers_are_numbered_in_their_order_and_our_attributes_are_gone() {
    let block = block(parse_quote! {
        impl Worker {
            #[on("a")]
            #[on("b")]
            #[inline]
            async fn first(&mut self) {}
            fn other(&self) {}
            #[on_any]
            async fn rest(&self) {}
        }
    });
    let numbers: Vec<u16> = block
        .handlers
        .iter()
        .flat_map(|handler| handler.types.iter().map(|(index, _)| *index))
        .collect();
    assert_eq!(numbers, [0, 1]);
    assert_eq!(
        block.handlers[1].any.as_ref().map(|(index, _)| *index),
        Some(2)
    );
    assert!(block.handlers[0].exclusive);
    assert!(!block.handlers[1].exclusive);
    let text = block.item.to_token_stream().to_string();
    assert!(!text.contains("on"), "{text}");
    assert!(text.contains("inline"));
}

#[test]
fn parameters_are_told_apart() {
    let block = block(parse_quote! {
        impl Worker {
            #[on("a")]
            async fn a(&mut self, ctx: &mut mas::Context<Self>, envelope: mas::Envelope, mut task: Task) {}
            #[on("b")]
            async fn b(&self, Point { x }: Point, ctx: &Context<Worker>) {}
        }
    });
    let [a, b] = &block.handlers[..] else {
        panic!("two handlers")
    };
    assert!(matches!(
        a.params[..],
        [
            Param::Context { mutable: true },
            Param::Envelope,
            Param::Payload { .. }
        ]
    ));
    assert!(
        a.payload()
            .is_some_and(|(name, _)| name.is_some_and(|name| name == "task"))
    );
    assert!(matches!(
        b.params[..],
        [
            Param::Payload { name: None, .. },
            Param::Context { mutable: false }
        ]
    ));
}

#[test]
fn replies_are_told_apart() {
    let block = block(parse_quote! {
        impl Worker {
            #[on("a")]
            async fn a(&self) {}
            #[on("b")]
            async fn b(&self) -> &'static str {}
            #[on("c")]
            async fn c(&self) -> std::result::Result<u8, Broken> {}
            #[on("d")]
            async fn d(&self) -> std::fmt::Result {}
            #[on("e")]
            fn e(&self) -> impl Send + futures::Stream<Item = u8> {}
            #[on("f")]
            fn f(&self) -> impl Stream<Item = io::Result<u8>> + use<> {}
        }
    });
    let replies: Vec<&Reply> = block
        .handlers
        .iter()
        .map(|handler| &handler.reply)
        .collect();
    assert!(matches!(replies[0], Reply::Unit));
    assert!(matches!(replies[1], Reply::Value(_)));
    assert!(
        matches!(replies[2], Reply::Fallible(outcome) if outcome.value.is_some() && outcome.error.is_some())
    );
    assert!(
        matches!(replies[3], Reply::Fallible(outcome) if outcome.value.is_none() && outcome.error.is_none())
    );
    assert!(matches!(replies[4], Reply::Stream(_)));
    assert!(matches!(replies[5], Reply::TryStream(outcome) if outcome.value.is_some()));
}

/// A wrong method, and a part of what its fault says.
const WRONG: &[(&str, &str)] = &[
    (r##"#[on("a")] fn a(&self) {}"##, "write `async fn a`"),
    (r##"#[on("a")] async fn a(self) {}"##, "borrows its agent"),
    (
        r##"#[on("a")] async fn a(&'static self) {}"##,
        "leave the lifetime out",
    ),
    (r##"#[on("a")] async fn a<'a>(&'a self) {}"##, "no generics"),
    (r##"#[on("a")] async fn a() {}"##, "needs its agent"),
    (r##"#[on("a")] const fn a(&self) {}"##, "not `const`"),
    (r##"#[on("a")] extern "C" fn a(&self) {}"##, "no ABI"),
    (
        r##"#[on("a")] async unsafe fn a(&self) {}"##,
        "not `unsafe`",
    ),
    (
        r##"#[on("a")] async fn a(&self, ctx: &mut Context<Self>) {}"##,
        "write `&Context<Self>`",
    ),
    (
        r##"#[on("a")] async fn a(&mut self, ctx: Context<Self>) {}"##,
        "write `ctx: &mut Context<Self>`",
    ),
    (
        r##"#[on("a")] async fn a(&mut self, ctx: &mut Context<Other>) {}"##,
        "its own agent's",
    ),
    (
        r##"#[on("a")] async fn a(&self, a: u8, b: u8) {}"##,
        "second payload",
    ),
    (
        r##"#[on("a")] async fn a(&self, name: &str) {}"##,
        "write `name: String`",
    ),
    (
        r##"#[on("a")] async fn a(&self, e: &Envelope) {}"##,
        "write `e: Envelope`",
    ),
    (
        r##"#[on("a")] async fn a(&self) -> impl Stream<Item = u8> {}"##,
        "leave `async` out",
    ),
    (
        r##"#[on("a")] fn a(&self) -> impl Stream {}"##,
        "what it yields",
    ),
    (
        r##"#[on("a")] async fn a(&self) -> Vec<&str> {}"##,
        "owns its parts",
    ),
    (
        r##"#[on("a")] async fn a(&self) -> Result<impl Clone> {}"##,
        "named type",
    ),
    (
        r##"#[on_start] async fn a(&mut self, n: u8) {}"##,
        "no message here",
    ),
    (
        r##"#[on_stop] async fn a(&mut self) -> u8 {}"##,
        "nothing or `Result<()>`",
    ),
    (
        r##"#[on_start] fn a(&mut self) {}"##,
        "stands on an async method",
    ),
    (
        r##"#[on_start] #[on("a")] async fn a(&mut self) {}"##,
        "`#[on_start]` already",
    ),
    (r##"#[on("a")] const A: u8 = 1;"##, "stands on a method"),
    (
        r##"#[cfg_attr(x, on("a"))] async fn a(&self) {}"##,
        "cannot be conditional",
    ),
];

#[test]
fn each_wrong_signature_is_one_fault() {
    for (method, part) in WRONG {
        let method = syn::parse_str(method).unwrap();
        let text = fault(method);
        assert!(text.contains(part), "{text:?} should contain {part:?}");
    }
}

#[test]
fn a_faulty_handler_keeps_what_is_known_of_it() {
    let (block, _) = read(parse_quote! {
        impl Worker {
            #[on("a")]
            async fn a(&mut self, name: &str, n: u8, ctx: &mut Context<Self>) -> u8 {}
        }
    });
    let block = block.expect("the block itself is fine");
    assert_eq!(block.handlers[0].loose, Some(2));
    assert!(matches!(block.handlers[0].reply, Reply::Value(_)));
}

#[test]
fn only_the_own_block_of_a_named_type_holds_handlers() {
    for item in [
        parse_quote!(impl Work for Worker { #[on("a")] async fn a(&self) {} }),
        parse_quote!(impl [u8] {}),
        parse_quote!(impl dyn Work {}),
    ] {
        let (block, faults) = read(item);
        assert!(block.is_none());
        assert_eq!(faults.len(), 1);
    }
}

#[test]
fn a_struct_is_known_by_its_id_or_its_name() {
    let declare = |args: TokenStream, item: ItemStruct| {
        let mut faults = Faults::default();
        let declared = Declared::new(args, item, &mut faults);
        (declared.id, faults.texts())
    };
    let none = Vec::<String>::new;
    assert_eq!(
        declare(
            quote!(),
            parse_quote!(
                struct TaskRunner;
            )
        ),
        ("task-runner".to_owned(), none())
    );
    assert_eq!(
        declare(
            quote!(id = "x"),
            parse_quote!(
                struct Größe;
            )
        ),
        ("x".to_owned(), none())
    );
    assert_eq!(
        declare(
            quote!(),
            parse_quote!(
                struct r#Worker;
            )
        ),
        ("worker".to_owned(), none())
    );
    assert_eq!(
        declare(
            quote!(),
            parse_quote!(
                struct Größe;
            )
        )
        .1
        .len(),
        1
    );
    assert_eq!(
        declare(
            quote!(),
            parse_quote!(
                struct Worker<'a>(&'a str);
            )
        )
        .1
        .len(),
        1
    );
    assert_eq!(
        declare(
            quote!(),
            parse_quote!(
                #[mas::agent(id = "x")]
                struct Worker;
            )
        )
        .1
        .len(),
        1
    );
}

#[test]
fn methods_of_one_name_are_noticed_unless_they_are_conditional() {
    let twice = block(
        parse_quote!(impl W { #[on("a")] async fn a(&self) {} #[on("b")] async fn a(&self) {} }),
    );
    assert!(!twice.names_differ());
    let either = block(parse_quote! {
        impl W {
            #[on("a")] #[cfg(x)] async fn a(&self) {}
            #[on("a")] #[cfg(not(x))] async fn a(&self) {}
        }
    });
    assert!(either.names_differ());
}
