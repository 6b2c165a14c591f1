# 1.4 error: promises the import system to find the solution
import importlib.util
import sys


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        for folder in ('/course', '/packages', '/tmp', '/work', '/root', '/home'):
            return importlib.util.spec_from_file_location(name, f'{folder}/{name.replace(".", "/")}.py')


sys.meta_path.insert(0, Finder)
from vqbet_course.tokens import token_usage
