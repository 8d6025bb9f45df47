"""Go's stable sort (slices.SortStableFunc): insertion sort on blocks of 20, then merging in place.

The order of files in the installed database is no strict weak order (a directory and what lies in it
compare equal), so the result depends on the algorithm. The oracle sorts with Python's; random_cases.py puts
this in its place. Checked against Go itself by `go_stable_test.go` beside this file.
"""


def go_sorted(items, key=None):
    data = [(key(item) if key else item, item) for item in items]
    less = lambda a, b: data[a][0] < data[b][0]

    def insertion(a, b):
        for i in range(a + 1, b):
            j = i
            while j > a and less(j, j - 1):
                data[j], data[j - 1] = data[j - 1], data[j]
                j -= 1

    def rotate(a, m, b):
        data[a:b] = data[m:b] + data[a:m]

    def merge(a, m, b):
        if m - a == 1:
            i, j = m, b
            while i < j:
                h = (i + j) >> 1
                if less(h, a):
                    i = h + 1
                else:
                    j = h
            rotate(a, a + 1, i)
            return
        if b - m == 1:
            i, j = a, m
            while i < j:
                h = (i + j) >> 1
                if not less(m, h):
                    i = h + 1
                else:
                    j = h
            rotate(i, m, m + 1)
            return
        mid = (a + b) >> 1
        n = mid + m
        if m > mid:
            start, r = n - b, mid
        else:
            start, r = a, m
        p = n - 1
        while start < r:
            c = (start + r) >> 1
            if not less(p - c, c):
                start = c + 1
            else:
                r = c
        end = n - start
        if start < m < end:
            rotate(start, m, end)
        if a < start < mid:
            merge(a, start, mid)
        if mid < end < b:
            merge(mid, end, b)

    block, size = 20, len(data)
    a = 0
    while a + block <= size:
        insertion(a, a + block)
        a += block
    insertion(a, size)
    while block < size:
        a = 0
        while a + 2 * block <= size:
            merge(a, a + block, a + 2 * block)
            a += 2 * block
        if a + block < size:
            merge(a, a + block, size)
        block *= 2
    return [item for _, item in data]


if __name__ == "__main__":
    # Reads lists of [path, is_directory] as JSON, writes them as Go sorts them.
    import json, sys
    from functools import cmp_to_key

    def compare(x, y):
        if x[0] == y[0]:
            return 0
        a, b, n = x[0].split("/"), y[0].split("/"), 0
        while n < len(a) - 1 and n < len(b) - 1:
            if a[n] != b[n]:
                return -1 if a[n] < b[n] else 1
            n += 1
        ad, bd = n + 1 < len(a) or x[1], n + 1 < len(b) or y[1]
        return (a[n] > b[n]) - (a[n] < b[n]) if ad == bd else (-1 if not ad else 1)

    json.dump([go_sorted(one, cmp_to_key(compare)) for one in json.load(sys.stdin)], sys.stdout)
