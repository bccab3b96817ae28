import pytest

from explorer.catalog import TenantKeyInvalid, check_key


@pytest.mark.parametrize("key", ["www:my-project", "0", "A.b_c:d-e", "k" * 128])
def test_keys(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "-x", ":x", "a b", "a/b", "a...b", "a\n", "ключ", "k" * 129, "a,b", "a[b]"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(TenantKeyInvalid):
        check_key(key)
