//! What an edit says of the images that it was drawn from.

use std::process::Stdio;

use tests::klein;

use crate::{program::Program, shown::Shown};

/// An edit commits to the files that it was drawn from: those, in their order, open it and draw it again.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_tells_what_it_was_drawn_from() {
    let model = klein::model_directory("klein-1x1");
    let words = ["--set", "provenance=c2pa"];
    let mut serve = Program::command_with_model(model.path().as_ref(), &words);
    let node = Program::start(serve.stderr(Stdio::null()));
    let shown = Shown::of(node).await;
    for (name, width, height) in [("a.png", 96, 70), ("b.png", 64, 80)] {
        let rgb = klein::pattern(width, height);
        image::RgbImage::from_raw(width, height, rgb).unwrap().save(shown.at(name)).unwrap();
    }
    let (a, b) = (shown.path("a.png"), shown.path("b.png"));
    let inputs = ["--image", &a, "--image", &b];
    shown.drawn(0, "star.png", &[&inputs[..], &["--provenance", "c2pa"]].concat());

    let (told, prompt) = (shown.path("star.png.provenance.json"), shown.path("prompt"));
    let model = model.path().to_str().unwrap();
    let both = |code: i32, files: &[&String]| {
        let files: Vec<&str> = files.iter().flat_map(|file| ["--input-image", file]).collect();
        let words = ["--disclose", &told, "--prompt-file", &prompt];
        let verified = shown.verify(code, "star.png", &[&words[..], &files].concat());
        let words =
            ["replay", &told, "--prompt-file", &prompt, "--device", "cpu", "--model", model];
        let replayed = shown.says(code, &[&words[..], &files].concat());
        (verified, replayed)
    };
    let (verified, replayed) = both(0, &[&a, &b]);
    assert!(verified.contains("input images") && replayed.contains("bit for bit"), "{replayed}");
    for (files, problem) in [
        (vec![&b, &a], "in another order"),
        (vec![&a], "from 2 input images, and --input-image names 1"),
        (vec![], "from 2 input images, and --input-image names 0"),
        (vec![&a, &a], "is not input image 2"),
        (vec![&prompt, &b], "is not input image 1"),
    ] {
        let (verified, replayed) = both(10, &files);
        assert!(verified.contains(problem) && replayed.contains(problem), "{verified}\n{replayed}");
    }
    // Under a mask, which is committed to as well. The right half is transparent.
    let alpha = |x: u32, _| image::Rgba([0, 0, 0, if x < 48 { 255 } else { 0 }]);
    let (mask, opaque) = (shown.path("mask.png"), shown.path("opaque.png"));
    image::RgbaImage::from_fn(96, 70, alpha).save(&mask).unwrap();
    image::RgbaImage::from_pixel(96, 70, image::Rgba([0, 0, 0, 255])).save(&opaque).unwrap();
    let drawn = |code: i32, name: &str, mask: &str, more: &[&str]| {
        let words = ["--image", &a, "--mask", mask, "--provenance", "c2pa"];
        shown.drawn(code, name, &[&words[..], more].concat())
    };
    drawn(0, "masked.png", &mask, &[]);
    assert_eq!(image::image_dimensions(shown.at("masked.png")).unwrap(), (96, 64));
    for (mask, more, says) in [
        (&opaque, &[][..], "is transparent nowhere"),
        (&b, &[], "has 64×80 pixels, and the first image 96×70"),
        (&a, &[], "has no alpha channel"),
        (&prompt, &[], "is neither PNG"),
        (&mask, &["--size", "64x64"], "`auto` or `96x64`"),
    ] {
        let said = drawn(1, "refused.png", mask, more);
        assert!(said.contains(says), "{said}");
    }
    let masked_told = shown.path("masked.png.provenance.json");
    let opened = |code: i32, more: &[&str]| {
        let words = ["replay", &masked_told, "--prompt-file", &prompt, "--device", "cpu"];
        let words = [&words[..], &["--model", model, "--input-image", &a], more].concat();
        shown.says(code, &words)
    };
    assert!(opened(0, &["--input-mask", &mask]).contains("bit for bit"));
    assert!(opened(10, &[]).contains("under a mask: --input-mask names it"));
    assert!(opened(10, &["--input-mask", &opaque]).contains("is not its mask"));
    // What came with the image says otherwise, and is believed in nothing.
    shown.change("lie", |told| drop(told.as_object_mut().unwrap().remove("images")));
    let words = ["--disclose", &shown.path("lie"), "--prompt-file", &prompt];
    assert!(shown.verify(10, "star.png", &words).contains("something else was asked for"));
}
