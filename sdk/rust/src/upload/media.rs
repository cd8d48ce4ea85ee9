//! Encoding of raw pixels and samples.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Cursor, Seek, Write},
    path::Path,
};

use super::manifest::{Encoding, SampleKind};

/// Encodes the content of one file into another.
pub(super) fn encode_file(encoding: Encoding, source: &Path, target: &Path) -> io::Result<()> {
    encode(encoding, &fs::read(source)?, BufWriter::new(File::create(target)?))
}

/// Returns encoded content.
pub(super) fn encoded(encoding: Encoding, raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(encoding, raw, Cursor::new(&mut bytes))?;
    Ok(bytes)
}

fn encode(encoding: Encoding, raw: &[u8], mut file: impl Write + Seek) -> io::Result<()> {
    match encoding {
        Encoding::Identity => file.write_all(raw),
        Encoding::Png { width, height, channels } => encode_png(file, raw, width, height, channels),
        Encoding::Wav { rate, channels, samples } => encode_wav(file, raw, rate, channels, samples),
    }
}

fn encode_png(file: impl Write, pixels: &[u8], width: u32, height: u32, channels: u8) -> io::Result<()> {
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(match channels {
        1 => png::ColorType::Grayscale,
        2 => png::ColorType::GrayscaleAlpha,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    });
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(pixels).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)
}

fn encode_wav(
    file: impl Write + Seek,
    raw: &[u8],
    rate: u32,
    channels: u16,
    samples: SampleKind,
) -> io::Result<()> {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format };
    let mut writer = hound::WavWriter::new(file, spec).map_err(io::Error::other)?;
    match samples {
        SampleKind::I16 => {
            for sample in raw.as_chunks::<2>().0 {
                writer.write_sample(i16::from_le_bytes(*sample)).map_err(io::Error::other)?;
            }
        }
        SampleKind::F32 => {
            let samples = raw.as_chunks::<4>().0.iter().map(|sample| f32::from_le_bytes(*sample));
            // Normalized by the peak, as the client of Matyan 0.3 does.
            let peak = samples
                .clone()
                .filter(|sample| sample.is_finite())
                .fold(0.0_f32, |peak, it| peak.max(it.abs()));
            let scale = if peak > 0.0 { f32::from(i16::MAX) / peak } else { 0.0 };
            for sample in samples {
                // The conversion saturates, and makes NaN a zero.
                writer.write_sample((sample * scale) as i16).map_err(io::Error::other)?;
            }
        }
    }
    writer.finalize().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoding: Encoding, raw: &[u8]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a");
        let target = directory.path().join("b");
        fs::write(&source, raw).unwrap();
        encode_file(encoding, &source, &target).unwrap();
        let bytes = fs::read(target).unwrap();
        assert_eq!(super::encoded(encoding, raw).unwrap(), bytes);
        bytes
    }

    #[test]
    fn pixels_survive_png() {
        for channels in 1..=4_u8 {
            let pixels: Vec<u8> = (0..6 * channels).collect();
            let bytes = encoded(Encoding::Png { width: 3, height: 2, channels }, &pixels);
            let mut reader = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap();
            let mut found = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut found).unwrap();
            assert_eq!((info.width, info.height, &found), (3, 2, &pixels));
        }
    }

    #[test]
    fn samples_survive_wav() {
        let raw: Vec<u8> = [1_i16, -2, i16::MAX, i16::MIN].iter().flat_map(|it| it.to_le_bytes()).collect();
        let bytes = encoded(Encoding::Wav { rate: 8000, channels: 2, samples: SampleKind::I16 }, &raw);
        let mut reader = hound::WavReader::new(io::Cursor::new(bytes)).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.spec().channels), (8000, 2));
        let found: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(found, [1, -2, i16::MAX, i16::MIN]);
    }

    #[test]
    fn floats_are_normalized_by_their_peak() {
        let raw: Vec<u8> = [0.0_f32, 0.5, -0.25, f32::NAN].iter().flat_map(|it| it.to_le_bytes()).collect();
        let bytes = encoded(Encoding::Wav { rate: 8000, channels: 1, samples: SampleKind::F32 }, &raw);
        let mut reader = hound::WavReader::new(io::Cursor::new(bytes)).unwrap();
        let found: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(found, [0, i16::MAX, -16383, 0]);
    }
}
