"""Image folders: labels by the agreed order, pixels as worked by hand, and what is no such folder refused by name."""

import struct
import unicodedata
import zlib

import numpy as np
import pytest
import torch

pytest.importorskip("torchvision")
from PIL import Image, ImageOps

from fedlaw_flwr.records.schema import differences
from fedlaw_flwr.records.task import load_silo_task
from fedlaw_flwr.training.local import evaluate, train


def paint(path, grey, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = grey if isinstance(grey, tuple) else (grey,) * len(Image.new(mode, (1, 1)).getbands())
    Image.new(mode, size, colour if len(colour) > 1 else colour[0]).save(path)


def make(root, **options):
    return load_silo_task("image_folder", str(root), {"classes": "cat, dog", "side": 8, "test-share": 0, **options})


def test_labels_follow_the_agreed_order_also_where_a_silo_lacks_a_class(tmp_path):
    paint(tmp_path / "dog" / "a.png", 255)
    paint(tmp_path / "dog" / "deeper" / "b.png", 255)
    assert make(tmp_path).load_train().targets.tolist() == [1, 1]
    assert make(tmp_path, classes="dog,ant").load_train().targets.tolist() == [0, 0]
    assert make(tmp_path, classes="ant,bee,cat,dog").build_model(0)[-1].out_features == 4


def test_a_pixel_is_its_share_of_255_less_the_mean_over_the_deviation(tmp_path):
    paint(tmp_path / "cat" / "a.png", (255, 0, 51))
    found = make(tmp_path).load_train().inputs
    assert found.shape == (1, 3, 8, 8)
    expected = [(1 - 0.5) / 0.5, (0 - 0.5) / 0.5, (0.2 - 0.5) / 0.5]
    torch.testing.assert_close(found[0, :, 3, 3], torch.tensor(expected))
    found = make(tmp_path, mean=0.2, deviation=0.1).load_train().inputs
    torch.testing.assert_close(found[0, 2, 0, 0], torch.tensor(0.0), atol=1e-6, rtol=0)


def test_grey_and_colour_files_both_become_the_channels_agreed(tmp_path):
    paint(tmp_path / "cat" / "a.png", 51, mode="L")
    paint(tmp_path / "cat" / "b.png", 51, mode="RGB")
    paint(tmp_path / "cat" / "c.png", (51, 51, 51, 0), mode="RGBA")
    for channels in (1, 3):
        found = make(tmp_path, channels=channels).load_train().inputs
        torch.testing.assert_close(found, torch.full((3, channels, 8, 8), (0.2 - 0.5) / 0.5))


def test_the_shorter_side_is_fitted_and_the_middle_kept(tmp_path):
    pixels = np.zeros((16, 48), np.uint8)
    pixels[:, 16:32] = 255  # the middle third of a wide image
    (tmp_path / "cat").mkdir()
    Image.fromarray(pixels).save(tmp_path / "cat" / "wide.png")
    found = make(tmp_path, channels=1).load_train().inputs
    torch.testing.assert_close(found[0, 0, :, 1:-1], torch.ones(8, 6))


def test_a_photograph_is_turned_upright(tmp_path):
    image = Image.fromarray(np.repeat([[0], [255]], 4, axis=0).astype(np.uint8).repeat(8, axis=1))
    orientation = image.getexif()
    orientation[0x0112] = 3  # upside down
    (tmp_path / "cat").mkdir()
    image.save(tmp_path / "cat" / "a.png", exif=orientation)
    found = make(tmp_path, channels=1).load_train().inputs[0, 0]
    assert float(found[0].min()) == 1 and float(found[-1].max()) == -1


def test_train_and_test_folders_are_the_split(tmp_path):
    for index in range(3):
        paint(tmp_path / "train" / "cat" / f"{index}.png", index)
    paint(tmp_path / "test" / "dog" / "x.png", 255)
    task = make(tmp_path, **{"test-share": 0.5})
    assert (task.load_train().targets.tolist(), task.load_test().targets.tolist()) == ([0, 0, 0], [1])


def test_else_a_share_of_each_class_is_held_back_by_content(tmp_path):
    for index in range(10):
        paint(tmp_path / "a" / "cat" / f"{index}.png", index)
        paint(tmp_path / "a" / "dog" / f"{index}.png", 100 + index)
        paint(tmp_path / "b" / "cat" / f"{9 - index}.png", index)  # the same images, named the other way round
        paint(tmp_path / "b" / "dog" / f"{9 - index}.png", 100 + index)
    first, again = (make(tmp_path / silo, **{"test-share": 0.2, "split-seed": 5}) for silo in "ab")
    assert sorted(first.load_test().targets.tolist()) == [0, 0, 1, 1]
    assert torch.equal(first.load_test().inputs, again.load_test().inputs)
    assert torch.equal(first.load_train().inputs, again.load_train().inputs)
    other = make(tmp_path / "a", **{"test-share": 0.2, "split-seed": 6})
    assert not torch.equal(first.load_test().inputs, other.load_test().inputs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": "cat"}, "option classes='cat': two or more different names"),
        ({"classes": "cat,cat"}, "two or more different names"),
        ({"side": 20}, "option side=20: a multiple of 8 is expected"),
        ({"channels": 2}, r"option channels=2: 1 \(grey\) or 3 \(colour\)"),
        ({"deviation": 0}, "option deviation=0: .*greater than 0"),
        ({"test-share": 1}, "option test-share=1: .*less than 1"),
        ({"clases": "a"}, "there is no option 'clases'; did you mean 'classes'"),
        ({"classes": "dog,ant"}, r"has the folder 'cat'; agreed classes are dog, ant"),
    ],
)
def test_a_wrong_option_is_named(options, said, tmp_path):
    paint(tmp_path / "cat" / "a.png", 0)
    with pytest.raises(ValueError, match=said):
        make(tmp_path, **options)


def test_what_is_no_folder_of_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        make(tmp_path / "nowhere")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    with pytest.raises(ValueError, match="there is no image in a folder named cat or dog"):
        make(tmp_path)


def test_a_file_that_is_no_image_or_has_deeper_pixels_is_named(tmp_path):
    paint(tmp_path / "cat" / "a.png", 0)
    whole = (tmp_path / "cat" / "a.png").read_bytes()
    (tmp_path / "cat" / "cut.png").write_bytes(whole[:45])
    with pytest.raises(ValueError, match=r"cut\.png: it cannot be read"):
        make(tmp_path)
    (tmp_path / "cat" / "cut.png").unlink()
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "cat" / "scan.png")
    with pytest.raises(ValueError, match=r"scan\.png: its pixels have more than 8 bits"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"split-seed": 9, "test-share": 0.3}, []),
        ({"classes": "dog, cat"}, ["classes: labels dog, cat here, cat, dog agreed"]),
        ({"side": 16, "mean": 0.4}, ["images: side 16 here, 8 agreed; mean 0.4 here, 0.5 agreed"]),
        ({"channels": 1}, ["images: channels 1 here, 3 agreed"]),
    ],
)
def test_what_must_agree_is_described_and_what_need_not_is_not(options, said, tmp_path):
    paint(tmp_path / "cat" / "a.png", 0)
    assert differences(make(tmp_path, **options).description(), make(tmp_path).description()) == said


def test_light_and_dark_are_told_apart(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(24):
        for name, grey in (("cat", 60), ("dog", 190)):
            (tmp_path / name).mkdir(exist_ok=True)
            noise = (grey + rng.integers(-50, 50, (8, 8, 3))).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{index}.png")
    task = make(tmp_path, **{"test-share": 0.25})
    model = task.build_model(0)
    train(model, task, task.load_train(), lr=0.05, epochs=8, batch_size=8, rng=rng)
    assert evaluate(model, task, task.load_test())["auc"] > 0.95


# What is taken, what is not, and what would be read wrong.


def noted(root, **options):
    return "\n".join(make(root, **options).suspicions())


def taken(root, **options):
    return make(root, **options).load_train().targets.tolist()


def test_what_tools_leave_in_a_folder_is_not_taken_and_is_said(tmp_path):
    paint(tmp_path / "cat" / "a.png", 0)
    paint(tmp_path / "dog" / "b.png", 0)
    assert noted(tmp_path) == ""
    for tool in (".thumbnails", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "#recycle", "Thumbnails"):
        paint(tmp_path / "cat" / tool / "a.png", 0)
        paint(tmp_path / tool / "a.png", 0)
    paint(tmp_path / "cat" / "._a.png", 0)
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert taken(tmp_path) == [0, 1]
    assert "not read because they are hidden or a tool's own: 15, as " in noted(tmp_path)
    assert f"{tmp_path}: read are 1 of cat, 1 of dog" in noted(tmp_path)


def test_files_of_other_endings_are_counted_with_the_reason(tmp_path):
    paint(tmp_path / "cat" / "a.PNG", 0)
    for name in ("b.dcm", "c.dcm", "d.gif", "e.jp2", "f"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    paint(tmp_path / "stray.png", 0)
    said = noted(tmp_path)
    assert taken(tmp_path) == [0]
    assert (
        "end in .dcm (pictures end in .jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp): 2, as 'cat/b.dcm'"
        in said
    )
    assert "end in .gif" in said and "end in .jp2" in said and "have no ending" in said
    assert "lie beside the classes' folders: 1, as 'stray.png'" in said


def test_where_nothing_is_taken_the_error_says_what_was_there(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.dcm").write_bytes(b"x")
    with pytest.raises(
        ValueError, match=r"there is no image in a folder named cat or dog\n.*end in \.dcm .*: 1, as 'cat/a"
    ):
        make(tmp_path)


def test_pictures_in_deeper_folders_are_taken_and_said(tmp_path):
    paint(tmp_path / "cat" / "patient 7" / "left" / "a.png", 0)
    assert taken(tmp_path) == [0]
    assert "1 pictures lie in folders within a class' folder, and are read" in noted(tmp_path)


def test_links_up_across_and_to_nowhere_are_not_followed(tmp_path):
    paint(tmp_path / "in" / "cat" / "a.png", 0)
    paint(tmp_path / "in" / "dog" / "deeper" / "b.png", 0)
    for name, target in {"up": "..", "top": "../..", "self": ".", "dogs": "../dog", "some": "../dog/deeper"}.items():
        (tmp_path / "in" / "cat" / name).symlink_to(target)
    (tmp_path / "in" / "cat" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "in" / "cat" / "again.png").symlink_to("a.png")
    assert taken(tmp_path / "in") == [0, 1]
    said = noted(tmp_path / "in")
    assert "links to a folder above or to one that is read anyway: 5, as " in said
    assert "links that lead nowhere: 1, as 'cat/gone.png'" in said
    assert "links to a picture that is read anyway: 1, as" in said


def test_links_to_elsewhere_are_followed_once(tmp_path):
    paint(tmp_path / "store" / "more" / "a.png", 0)
    (tmp_path / "store" / "more" / "back").symlink_to(tmp_path / "store")
    (tmp_path / "in" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "cat" / "one").symlink_to(tmp_path / "store" / "more")
    (tmp_path / "in" / "cat" / "two").symlink_to(tmp_path / "store" / "more")
    assert taken(tmp_path / "in") == [0]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "dog").symlink_to(tmp_path / "store" / "more")
    assert taken(tmp_path / "linked") == [1]


def test_one_picture_or_folder_for_two_classes_is_refused(tmp_path):
    paint(tmp_path / "cat" / "a.png", 0)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "b.png").symlink_to(tmp_path / "cat" / "a.png")
    with pytest.raises(ValueError, match=r"b\.png and .*a\.png are one file in two classes"):
        make(tmp_path)
    (tmp_path / "dog" / "b.png").unlink()
    (tmp_path / "dog").rmdir()
    (tmp_path / "dog").symlink_to(tmp_path / "cat")
    with pytest.raises(ValueError, match="are one folder: one of them is wrong"):
        make(tmp_path)


def test_class_folders_match_however_their_letters_are_stored_and_other_case_is_named(tmp_path):
    paint(tmp_path / unicodedata.normalize("NFD", "gutartig ö") / "a.png", 0)
    assert taken(tmp_path, classes=f"{unicodedata.normalize('NFC', 'gutartig ö')}, böse") == [0]
    paint(tmp_path / "Cat" / "a.png", 0)
    with pytest.raises(ValueError, match=r"has the folder 'Cat'.*'Cat' looks like 'cat' \(other case\): rename it"):
        make(tmp_path, classes="gutartig ö, cat")


def test_what_lies_beside_train_and_test_is_said(tmp_path):
    for name in ("train", "test", "val"):
        paint(tmp_path / name / "cat" / "a.png", 0)
    assert f"{tmp_path}: train and test are read, and not what lies beside them: val" in noted(tmp_path)


def png16(path, channels):
    """A PNG of 16 bits a channel, which Pillow cannot write: 8 x 8, every value 4095 as a camera of 12 bits has it."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = (b"\0" + np.full(8 * channels, 4095, ">u2").tobytes()) * 8

    def part(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_of_16_bits_are_refused_in_grey_and_in_colour(channels, tmp_path):
    png16(tmp_path / "cat" / "deep.png", channels)
    with pytest.raises(ValueError, match=r"deep\.png: its pixels have more than 8 bits"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("name", "head", "values"), [("a.ppm", b"P6\n8 8\n4095\n", 192), ("a.pgm", b"P5\n8 8\n4095\n", 64)]
)
def test_portable_maps_of_more_than_8_bits_are_refused(name, head, values, tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / name).write_bytes(head + np.full(values, 2000, ">u2").tobytes())
    with pytest.raises(ValueError, match=r"its pixels have more than 8 bits"):
        make(tmp_path)


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_colours_that_are_not_a_screens_are_refused(mode, tmp_path):
    paint(tmp_path / "cat" / "a.tif", 100, mode=mode)
    with pytest.raises(ValueError, match=rf"a\.tif: its colours are {mode}: export it in RGB or grey"):
        make(tmp_path)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "YCbCr"])
def test_other_modes_of_8_bits_are_read_as_pillow_converts_them(mode, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)).convert(mode)
    (tmp_path / "cat").mkdir()
    noise.save(tmp_path / "cat" / "a.tif")
    pixels = torch.tensor(np.asarray(noise.convert("RGB"))).permute(2, 0, 1) / 255
    torch.testing.assert_close(make(tmp_path).load_train().inputs[0], (pixels - 0.5) / 0.5)


@pytest.mark.parametrize("name", ["pages.tif", "film.webp", "film.png"])
def test_a_file_of_several_pictures_is_refused(name, tmp_path):
    (tmp_path / "cat").mkdir()
    pages = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (10, 200, 90)]
    pages[0].save(tmp_path / "cat" / name, save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=rf"{name}: it holds 3 pictures, and one is expected"):
        make(tmp_path)


@pytest.mark.parametrize(("suffix", "form"), [(".jpg", "JPEG"), (".png", "PNG"), (".bmp", "BMP"), (".tif", "TIFF")])
def test_a_file_that_is_cut_short_is_named_and_all_such_files_at_once(suffix, form, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8))
    (tmp_path / "cat").mkdir()
    noise.save(tmp_path / f"whole{suffix}", form)
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    (tmp_path / f"whole{suffix}").unlink()
    for share in (0.0, 0.02, 0.5, 0.9):
        (tmp_path / "cat" / f"{share}{suffix}").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError) as found:
        make(tmp_path)
    lines = str(found.value).splitlines()
    assert [line.split("cat/")[1][:3] for line in lines] == ["0.0", "0.0", "0.5", "0.9"]
    assert "it is empty" in lines[0] and all("it cannot be read: it is" in line for line in lines[1:])
    assert "cut short; copy it again" in lines[2]


def jpeg(path, exif):
    """Dark above, light below, with this EXIF."""
    image = Image.fromarray(np.repeat([[0], [255]], 8, axis=0).astype(np.uint8).repeat(16, axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif)


def exif(orientation=None, broken=False):
    """EXIF by hand, big-endian: a resolution whose rational lies beyond the end is what cameras and editors break."""
    tags = [] if orientation is None else [struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)]
    tags += [struct.pack(">HHII", 0x8769, 4, 1, 9999)] if broken else []
    tags += [struct.pack(">HHII", 0x9286, 2, 50, 90000)] if broken else []
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(tags)) + b"".join(tags) + b"\0\0\0\0"


@pytest.mark.parametrize(
    "broken",
    [
        exif(broken=True),
        exif(broken=True)[:20],
        b"Exif\0\0XX\0*\0\0\0\x08",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        exif(orientation=77),
        b"Exif\0\0",
    ],
)
def test_broken_exif_is_no_traceback_and_is_said_where_the_orientation_is_lost(broken, tmp_path):
    jpeg(tmp_path / "cat" / "a.jpg", broken)
    found = make(tmp_path, channels=1)
    top = found.load_train().inputs[0, 0, 0]
    assert float(top.max()) < 0
    assert len(found.suspicions()) <= 1
    assert all("EXIF that cannot be read" in said for said in found.suspicions())


def test_an_orientation_that_can_be_read_counts_also_where_another_tag_is_broken(tmp_path):
    jpeg(tmp_path / "cat" / "a.jpg", exif(orientation=3, broken=True))
    assert float(make(tmp_path, channels=1).load_train().inputs[0, 0, 0].min()) > 0


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(turn, tmp_path):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (8, 8)).astype(np.uint8))
    tags = noise.getexif()
    tags[0x0112] = turn
    (tmp_path / "cat").mkdir()
    noise.save(tmp_path / "cat" / "a.png", exif=tags)
    expected = torch.tensor(np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "cat" / "a.png")))) / 255
    torch.testing.assert_close(make(tmp_path, channels=1).load_train().inputs[0, 0], (expected - 0.5) / 0.5)


def test_a_file_of_another_kind_under_a_pictures_name_is_named(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n" + b"x" * 100)
    with pytest.raises(ValueError, match=r"a\.jpg: it cannot be read: it is no picture of a kind known here"):
        make(tmp_path)


def test_transparency_is_said(tmp_path):
    paint(tmp_path / "cat" / "a.png", (51, 51, 51, 0), mode="RGBA")
    paint(tmp_path / "cat" / "b.png", (51, 51, 51, 255), mode="RGBA")
    assert "1 pictures have transparent pixels, of which the colours are taken as they are, cat/a.png" in noted(
        tmp_path
    )
