//! Edits under a mask: the same image by every way, and what is wrong with a mask named.

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use protocol::CreateImageResponse;
use serde_json::{Value, json};
use tests::{Exchange, OneColour, TestNode, error_of, http, klein};

use super::{Klein, data_url, fields, form, images_of, png};

/// A file with this alpha channel.
fn with_alpha(width: u32, height: u32, alpha: &[u8]) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let rgba: Vec<u8> = alpha.iter().flat_map(|alpha| [9, 8, 7, *alpha]).collect();
    PngEncoder::new(&mut file).write_image(&rgba, width, height, ExtendedColorType::Rgba8).unwrap();
    file.into_inner()
}

fn mask(width: u32, height: u32) -> Vec<u8> {
    with_alpha(width, height, &klein::mask_alpha(width, height))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_ways_keep_what_the_mask_keeps() {
    let klein = Klein::start().await;
    let (first, second, mask) = (png(101, 75), png(64, 80), mask(101, 75));
    let inputs = [klein::masked_image(101, 75), klein::input_image(64, 80)];
    let expected = klein.expected(&inputs, "96x64", 2);
    let unmasked = [klein::input_image(101, 75), klein::input_image(64, 80)];
    assert!(klein.expected(&unmasked, "96x64", 2) != expected);

    let images = json!([data_url(&first), data_url(&second)]);
    let body = fields(json!({"images": images, "n": 2, "mask": {"image_url": data_url(&mask)}}));
    let (status, text) = klein.post(body.to_string().into_bytes(), "application/json").await;
    assert_eq!(status, 200, "{text}");
    let in_json = CreateImageResponse::from_json(text.as_bytes()).unwrap();
    assert!(images_of(&in_json) == expected);
    assert_eq!(in_json.size.as_deref(), Some("96x64"));
    // The mask's tokens are those of the image that it is for.
    assert_eq!(in_json.usage.unwrap().input_tokens_details.image_tokens, 6 * 4 + 4 * 5);
    // That a mask is transparent is nothing to be told of.
    assert!(in_json.warnings.is_empty());

    let sealed = Exchange::of(&klein.node.url, body).await.to_edits().send().await;
    assert!(images_of(&sealed.images()) == expected);

    let (form, media_type) = form(&[
        ("prompt", super::PROMPT.as_bytes()),
        ("n", b"2"),
        ("steps", b"2"),
        ("seed", b"7"),
        ("size", b"96x64"),
        ("mask", &mask),
        ("image[]", &first),
        ("image[]", &second),
    ]);
    let (status, text) = klein.post(form, media_type).await;
    assert_eq!(status, 200, "{text}");
    assert!(images_of(&CreateImageResponse::from_json(text.as_bytes()).unwrap()) == expected);

    // What is transparent everywhere is drawn anew everywhere.
    let all = with_alpha(64, 80, &[0; 64 * 80]);
    let images = json!([data_url(&second)]);
    let body = fields(json!({"images": images, "mask": data_url(&all)}));
    let (status, text) = klein.post(body.to_string().into_bytes(), "application/json").await;
    assert_eq!(status, 200, "{text}");
    let found = images_of(&CreateImageResponse::from_json(text.as_bytes()).unwrap());
    assert!(found == klein.expected(&[klein::input_image(64, 80)], "64x80", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_mask_is_named() {
    let klein = Klein::start().await;
    let first = png(101, 75);
    let opaque = with_alpha(101, 75, &[255; 101 * 75]);
    // A line that no token has in its middle.
    let thin: Vec<u8> = (0..101 * 75).map(|at| u8::from(at % 101 != 0) * 255).collect();
    let mut damaged = mask(101, 75);
    let at = damaged.windows(4).position(|name| name == b"IDAT").unwrap() + 6;
    damaged[at..at + 20].fill(0xa5);
    let whole = mask(101, 75);
    for (mask, says) in [
        (mask(100, 75), "has 100×75 pixels, and the first image 101×75"),
        (mask(75, 101), "has 75×101 pixels, and the first image 101×75"),
        (png(101, 75), "has no alpha channel"),
        (opaque, "is transparent nowhere"),
        (with_alpha(101, 75, &thin), "is transparent nowhere"),
        (b"a text, whatever its name".to_vec(), "is neither PNG, JPEG nor WebP"),
        (whole[..whole.len() / 2].to_vec(), "is cut off"),
        (damaged, "is damaged"),
        (Vec::new(), "is empty"),
    ] {
        let body = fields(json!({"images": [data_url(&first)], "mask": data_url(&mask)}));
        let (status, text) = klein.post(body.to_string().into_bytes(), "application/json").await;
        assert_eq!(status, 400, "{text}");
        let in_json = error_of(&text);
        assert_eq!(
            (in_json.param.as_deref(), in_json.code.as_deref()),
            (Some("mask"), Some("invalid_mask")),
            "{text}"
        );
        let sealed = Exchange::of(&klein.node.url, body).await.to_edits().send().await;
        assert_eq!(sealed.status, 400);
        let (form, media_type) = form(&[("prompt", b"a hat"), ("image", &first), ("mask", &mask)]);
        let in_form = error_of(&klein.post(form, media_type).await.1);
        for error in [in_json, in_form, error_of(&sealed.open())] {
            let message = error.message;
            assert!(message.starts_with("`mask` ") && message.contains(says), "{message}");
        }
    }
    let url = data_url(&whole);
    for (fields_of, param, says) in [
        (json!({"mask": url}), "images", "is required"),
        (json!({"images": [], "mask": url}), "images", "is required"),
        (json!({"images": [data_url(&first)], "mask": "https://host/a.png"}), "mask", "fetch"),
        (json!({"images": [data_url(&first)], "mask": {"file_id": "f"}}), "mask", "file_id"),
        (json!({"images": [data_url(&first)], "mask": 7}), "mask", "must be an image"),
        (
            json!({"images": [data_url(&first)], "mask": url, "size": "64x64"}),
            "size",
            "`auto` or `96x64`",
        ),
        // It is the first one's.
        (
            json!({"images": [data_url(&png(64, 80)), data_url(&first)], "mask": url}),
            "mask",
            "64×80",
        ),
    ] {
        let body = fields(fields_of).to_string().into_bytes();
        let (status, text) = klein.post(body, "application/json").await;
        let error = error_of(&text);
        assert_eq!((status, error.param.as_deref()), (400, Some(param)), "{text}");
        assert!(error.message.contains(says), "{}", error.message);
    }
    // An image that is longer than this node draws is not cut for it.
    let (long, mask) = (png(448, 112), mask(448, 112));
    let body = fields(json!({"images": [data_url(&long)], "mask": data_url(&mask)}));
    let (_, text) = klein.post(body.to_string().into_bytes(), "application/json").await;
    assert_eq!(error_of(&text).param.as_deref(), Some("size"), "{text}");
}

/// Where no model takes images, that is said, mask or not; and on the routes for generations a mask has no place.
#[tokio::test(flavor = "multi_thread")]
async fn models_that_take_no_images_take_no_masks() {
    let node = TestNode::loaded(
        tests::loaded_model(OneColour::instant()),
        node::Config { allow_plaintext: true, ..node::Config::default() },
    )
    .await;
    let body = fields(json!({"images": [data_url(&png(64, 64))], "mask": data_url(&mask(64, 64))}));
    let post = async |path: &str, body: &Value| {
        let url = format!("{}{path}", node.url);
        error_of(&http().post(url).json(body).send().await.unwrap().text().await.unwrap())
    };
    let error = post("/v1/images/edits", &body).await;
    assert_eq!(error.code.as_deref(), Some("no_input_images"));
    let alone = fields(json!({"mask": data_url(&mask(64, 64))}));
    let error = post("/v1/images/generations", &alone).await;
    assert_eq!(error.param.as_deref(), Some("mask"));
    assert!(error.message.contains("/v1/images/edits"), "{}", error.message);
}
