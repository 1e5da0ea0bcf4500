//! Rows of two streams of n images: side by side, and an image's rows of both together.

use candle_core::Tensor;

use crate::Result;

/// (n·a, d) and (n·b, d) → (n·(a + b), d)
pub(super) fn interleave(streams: [&Tensor; 2], images: usize) -> Result<Tensor> {
    let mut rows = Vec::with_capacity(2 * images);
    for image in 0..images {
        for stream in streams {
            let each = stream.dim(0)? / images;
            rows.push(stream.narrow(0, image * each, each)?);
        }
    }
    Ok(Tensor::cat(&rows, 0)?)
}

/// (n·(a + b), d) → (n·a, d) and (n·b, d), given n·a and n·b. A view where there is one image.
pub(super) fn of_each(both: &Tensor, rows: [usize; 2], images: usize) -> Result<[Tensor; 2]> {
    let [a, b] = rows.map(|rows| rows / images);
    let stream = |first, each| -> Result<Tensor> {
        let parts = (0..images)
            .map(|image| both.narrow(0, image * (a + b) + first, each))
            .collect::<candle_core::Result<Vec<_>>>()?;
        match &parts[..] {
            [alone] => Ok(alone.clone()),
            parts => Ok(Tensor::cat(parts, 0)?),
        }
    };
    Ok([stream(0, a)?, stream(a, b)?])
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn rows_come_together_and_apart_again() {
        let rows =
            |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        let (text, image) = (rows(&[1., 2.]), rows(&[10., 11., 20., 21.]));
        for images in [1, 2] {
            let both = interleave([&text, &image], images).unwrap();
            let found = both.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            match images {
                1 => assert_eq!(found, [1., 2., 10., 11., 20., 21.]),
                _ => assert_eq!(found, [1., 10., 11., 2., 20., 21.]),
            }
            let [text_again, image_again] = of_each(&both, [2, 4], images).unwrap();
            assert_eq!(text_again.to_vec2::<f32>().unwrap(), text.to_vec2::<f32>().unwrap());
            assert_eq!(image_again.to_vec2::<f32>().unwrap(), image.to_vec2::<f32>().unwrap());
        }
    }
}
