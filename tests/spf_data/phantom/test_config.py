import pytest
from spf_data.phantom import PhantomConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_images", 0),
        ("image_size", 63),
        ("image_size", 62),
        ("image_size", 514),
        ("shift", 0.05),
        ("anatomy", "mirrored"),
        ("mode", "map"),
        ("noise", -0.1),
        ("noise", float("nan")),
        ("finding_size", 0.1),
        ("contrast", 0.0),
        ("contrast", float("inf")),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} must"):
        PhantomConfig(**{name: value})
