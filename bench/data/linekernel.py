"""Numba kernel that reads sparse text lines byte by byte; `bench.data.text` has the grammar."""

from __future__ import annotations

import numpy as np

from bench.store.kernels import njit

_POWERS = np.array([10.0**power for power in range(23)])  # exact in float64


@njit(cache=True)
def _parse_id(data, at, base, stop):  # type: ignore[no-untyped-def]
    """Id at `at`, counted from 0, and where it ends; -1 if it is not one in range."""
    number = 0
    begin = at
    while 48 <= data[at] <= 57:
        number = number * 10 + (data[at] - 48)
        at += 1
        if at - begin > 10:
            return -1, at
    if at == begin or number < base or number >= stop:
        return -1, at
    return number - base, at


@njit(cache=True)
def _parse_value(data, at):  # type: ignore[no-untyped-def]
    """Number at `at`, where it ends, and 0 = not a number, 1 = exact, 2 = let Python convert it."""
    sign = 1.0
    if data[at] == 43 or data[at] == 45:
        if data[at] == 45:
            sign = -1.0
        at += 1
    digits = 0  # of the mantissa, without leading zeros
    seen = 0
    mantissa = 0
    power = 0
    while 48 <= data[at] <= 57:
        seen += 1
        if digits < 16:
            mantissa = mantissa * 10 + (data[at] - 48)
        digits += 1 if mantissa > 0 else 0
        at += 1
    if data[at] == 46:
        at += 1
        while 48 <= data[at] <= 57:
            seen += 1
            if digits < 16:
                mantissa = mantissa * 10 + (data[at] - 48)
                power -= 1
            digits += 1 if mantissa > 0 else 0
            at += 1
    if seen == 0:
        return 0.0, at, 0
    if data[at] == 69 or data[at] == 101:
        at += 1
        downwards = data[at] == 45
        if data[at] == 43 or data[at] == 45:
            at += 1
        begin = at
        exponent = 0
        while 48 <= data[at] <= 57:
            if exponent < 100000:
                exponent = exponent * 10 + (data[at] - 48)
            at += 1
        if at == begin:
            return 0.0, at, 0
        power += -exponent if downwards else exponent
    # Clinger's fast path: both operands exact in float64, so one correctly rounded operation.
    if digits > 15 or power > 22 or power < -22:
        return 0.0, at, 2
    if power >= 0:
        return sign * mantissa * _POWERS[power], at, 1
    return sign * mantissa / _POWERS[-power], at, 1


@njit(cache=True)
def parse_bytes(  # type: ignore[no-untyped-def]
    data,
    is_vw,
    label_base,
    label_stop,
    feature_base,
    feature_stop,
    label_lengths,
    labels,
    feature_lengths,
    features,
    values,
    odd,
):
    """Parse whole lines; the start of the first bad one (-1: none) and the counts written."""
    at = 0
    point = 0
    num_labels = 0
    num_features = 0
    num_odd = 0
    while at < data.size:
        start = at
        bad = (start, point, num_labels, num_features, num_odd)
        first_label = num_labels
        first_feature = num_features
        if not is_vw:
            after = at
            while data[after] == 32:
                after += 1
            if data[after] == 10:
                return bad
            while 48 <= data[after] <= 57 and data[at] != 32:
                after += 1
            has_labels = data[at] != 32 and data[after] != 58
        else:
            has_labels = data[at] != 32 and data[at] != 124
        while has_labels:
            number, at = _parse_id(data, at, label_base, label_stop)
            if number < 0 or (num_labels > first_label and number <= labels[num_labels - 1]):
                return bad
            labels[num_labels] = number
            num_labels += 1
            if data[at] != 44:
                break
            at += 1
        if is_vw:
            while data[at] == 32:
                at += 1
            if data[at] != 124:
                return bad
            at += 1
            while data[at] != 32 and data[at] != 10:
                if data[at] == 58 or data[at] == 124 or data[at] == 13:
                    return bad
                at += 1
        is_first = not is_vw and not has_labels
        while data[at] != 10:
            if data[at] != 32 and not is_first:
                return bad
            is_first = False
            while data[at] == 32:
                at += 1
            if data[at] == 10:
                break
            number, at = _parse_id(data, at, feature_base, feature_stop)
            if number < 0:
                return bad
            if num_features > first_feature and number <= features[num_features - 1]:
                return bad
            value = 1.0
            if data[at] == 58:
                begin = at + 1
                value, at, state = _parse_value(data, begin)
                if state == 0:
                    return bad
                if state == 2:
                    odd[num_odd, 0] = num_features
                    odd[num_odd, 1] = begin
                    odd[num_odd, 2] = at
                    num_odd += 1
            elif not is_vw:
                return bad
            features[num_features] = number
            values[num_features] = value
            num_features += 1
        at += 1
        label_lengths[point] = num_labels - first_label
        feature_lengths[point] = num_features - first_feature
        point += 1
    return -1, point, num_labels, num_features, num_odd
