// Input images of an edit, as a sealed request names them: `data:` URLs.

import { base64 } from "./bytes.js";
import { ConfigurationError } from "./errors.js";

/** PNG, JPEG or WebP: a file, or a `data:` URL of one. A node fetches nothing. */
export type InputImage = Blob | Uint8Array | string;

const MAX_BYTES = 20_000_000;

/** The input images of one request; refuses what no node would take, before it is sealed. */
export async function dataUrls(images: readonly InputImage[]): Promise<string[]> {
  const urls: string[] = [];
  let bytes = 0;
  for (const image of images) {
    const length = typeof image === "string" ? (image.length - image.indexOf(",")) * 0.75 : image instanceof Uint8Array ? image.length : image.size;
    bytes += length;
    if (bytes > MAX_BYTES) throw new ConfigurationError(`the input images have more than ${MAX_BYTES} bytes`);
    urls.push(typeof image === "string" ? checked(image) : dataUrl(image instanceof Uint8Array ? image : new Uint8Array(await image.arrayBuffer())));
  }
  return urls;
}

/** What an edit has beside a generation's fields. Files count together. */
export async function editFields(images: readonly InputImage[], mask?: InputImage): Promise<{ images: string[]; mask?: string }> {
  if (mask === undefined) return { images: await dataUrls(images) };
  const urls = await dataUrls([...images, mask]);
  return { images: urls.slice(0, -1), mask: urls.at(-1) };
}

function checked(url: string): string {
  if (!/^data:[^,]*;base64,/i.test(url)) throw new ConfigurationError("an input image is a file, or a data: URL in base64");
  return url;
}

/** What a file is, its first bytes say. */
function dataUrl(file: Uint8Array): string {
  const head = String.fromCharCode(...file.subarray(0, 12));
  const type = head.startsWith("\x89PNG") ? "png" : head.startsWith("\xff\xd8") ? "jpeg" : /^RIFF[^]{4}WEBP/.test(head) ? "webp" : undefined;
  if (type === undefined) throw new ConfigurationError("an input image is a PNG, JPEG or WebP file");
  return `data:image/${type};base64,${base64(file)}`;
}
