"""The statement around a caller's text that sends each cell as a text of bounded size."""


def capped(expressions: list[str], cap_bytes: int, preview_chars: int) -> tuple[str, str]:
    """The text before and after the caller's text in a statement whose cells are `=<value>`, or `<size in bytes>:<preview>` above
    the cap, or null. `expressions`: how the columns `c1`, `c2` ... become text.

    `concat` gives a value's own output form where a cast to text would not (`char(n)` keeps its blanks, `inet` its
    missing mask). `IS DISTINCT FROM NULL` tells a row of nulls from null. OFFSET 0 stops the planner from computing an
    expression twice. The newline ends a comment.
    """
    numbers = range(1, len(expressions) + 1)
    outer = ",".join(
        f"CASE WHEN octet_length(t{n})<={cap_bytes} THEN '='||t{n} ELSE octet_length(t{n})||':'||left(t{n},{preview_chars}) END"
        for n in numbers
    )
    inner = ",".join(
        f"CASE WHEN c{n} IS DISTINCT FROM NULL THEN {expression} END AS t{n}"
        for n, expression in zip(numbers, expressions, strict=True)
    )
    aliases = f"({','.join(f'c{n}' for n in numbers)})" if expressions else ""
    return f"SELECT {outer} FROM (SELECT {inner} FROM (\n", f"\n) AS q{aliases} OFFSET 0) AS r"  # noqa: S608 (validated text goes between)
