"""What verifying says of a report that is as it was sealed, and of what it cannot check."""


def test_all(sealed_report):
    made = sealed_report()
    for one in made.check():
        print(one)
    for one in made.check(".html", public_key=made.key.public):
        print(one)
    assert 0
