/**
 * What is linted and how strictly. Types: typescript-eslint's strict rules with
 * type information. Architecture: our own rules (scripts/eslint-rows.js). The
 * AssemblyScript core has a type system of its own and is checked by its compiler
 * and by test/tidy.
 */
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';
import scoutfs from './scripts/eslint-rows.js';

/** One thing per file; longer than this is two things. */
const FILE_LINES_MAX = 800;
/** A function fits a screen. */
const FUNCTION_LINES_MAX = 80;

export default defineConfig([
  { ignores: ['dist/', 'build/', 'node_modules/', 'assembly/', '.tap/', 'coverage/'] },
  {
    rules: {
      // `== null` covers null and undefined in one comparison.
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-var': 'error',
      'prefer-const': 'error',
      'no-constant-binary-expression': 'error',
      'no-debugger': 'error',
      'no-dupe-else-if': 'error',
      'no-duplicate-case': 'error',
      'no-empty': 'error',
      'no-fallthrough': 'error',
      'no-loss-of-precision': 'error',
      'no-self-assign': 'error',
      'no-unreachable-loop': 'error',
      'no-unsafe-finally': 'error',
      'no-useless-escape': 'error',
    },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    plugins: { scoutfs },
    rules: {
      'scoutfs/rows': 'error',
      'scoutfs/effects': 'error',
      'no-console': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/prefer-readonly': 'error',
      '@typescript-eslint/switch-exhaustiveness-check':
        ['error', { considerDefaultExhaustiveForUnions: true }],
      // Numbers in messages are what template strings are for.
      '@typescript-eslint/restrict-template-expressions':
        ['error', { allowNumber: true, allowBoolean: true }],
      // Codecs and namespaces of functions are plain objects of the same name as their type.
      '@typescript-eslint/no-redeclare': 'off',
      '@typescript-eslint/no-unnecessary-condition':
        ['error', { allowConstantLoopConditions: true }],
    },
  },
  {
    files: ['host/**/*.ts'],
    rules: {
      'max-lines': ['error', { max: FILE_LINES_MAX, skipBlankLines: false, skipComments: false }],
      'max-lines-per-function':
        ['error', { max: FUNCTION_LINES_MAX, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    // One generated table of codecs.
    files: ['host/core/format.ts'],
    rules: { 'max-lines': 'off' },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      'no-console': 'off',
      // A subtest's promise is node-tap's to wait for.
      '@typescript-eslint/no-floating-promises':
        ['error', {
          allowForKnownSafeCalls: [
            { from: 'package', package: '@tapjs/core', name: ['test', 'skip', 'todo', 'rejects'] },
            { from: 'package', package: '@tapjs/test', name: ['test', 'skip', 'todo'] },
            { from: 'package', package: '@tapjs/asserts', name: ['rejects', 'resolves'] },
          ],
        }],
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    files: ['**/*.d.ts'],
    rules: { '@typescript-eslint/no-extraneous-class': 'off' },
  },
  {
    files: ['**/*.js'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
]);
