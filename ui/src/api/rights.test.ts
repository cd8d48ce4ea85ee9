import { expect, test } from 'vitest';

import {
  hasRight,
  leaves,
  NO_LIMITS,
  permits,
  roleText,
  ROLES,
  type Right,
  type RoleName,
} from './rights.ts';

test('each right has a least role', () => {
  const having = (right: Right): RoleName[] => ROLES.filter(role => permits(role, right));
  expect(having('read')).toEqual(['viewer', 'writer', 'editor', 'owner', 'operator']);
  expect(having('ingest')).toEqual(['ingest', 'writer', 'editor', 'owner', 'operator']);
  expect(having('edit')).toEqual(['editor', 'owner', 'operator']);
  expect(having('manage')).toEqual(['owner', 'operator']);
  expect(having('operate')).toEqual(['operator']);
  expect(having('monitor')).toEqual(['monitor', 'operator']);
});

test('a role applies to its project, or to all projects', () => {
  const ofSpeech = [{ role: 'owner', project: 'speech' }] as const;
  expect(hasRight(ofSpeech, 'manage', 'speech')).toBe(true);
  expect(hasRight(ofSpeech, 'manage', '')).toBe(false);
  expect(hasRight(ofSpeech, 'operate', 'speech')).toBe(false);
  const ofAll = [{ role: 'viewer', project: undefined }] as const;
  expect(hasRight(ofAll, 'read', 'speech')).toBe(true);
  expect(hasRight(ofAll, 'edit', 'speech')).toBe(false);
  expect(hasRight([...ofAll, ...ofSpeech], 'edit', 'speech')).toBe(true);
  // The default project has an empty name.
  expect(hasRight([{ role: 'editor', project: '' }], 'edit', '')).toBe(true);
  expect(hasRight([{ role: 'editor', project: '' }], 'edit', 'speech')).toBe(false);
});

test('a token may have less than the roles of its principal', () => {
  const left = (role: RoleName | undefined, only: string | undefined, project: string): Right[] =>
    (['read', 'ingest', 'edit', 'manage', 'operate'] as const).filter(right =>
      leaves({ role, project: only }, right, project),
    );
  expect(left(undefined, undefined, 'speech')).toHaveLength(5);
  expect(left('writer', undefined, 'speech')).toEqual(['read', 'ingest']);
  expect(left(undefined, 'speech', 'speech')).toEqual(['read', 'ingest', 'edit', 'manage']);
  expect(left(undefined, 'speech', '')).toEqual([]);
  expect(left('viewer', '', '')).toEqual(['read']);
  expect(left('operator', 'speech', 'speech')).toEqual(['read', 'ingest', 'edit', 'manage']);
  expect(leaves(NO_LIMITS, 'operate', '')).toBe(true);
});

test('a role is described with the projects that it applies to', () => {
  expect(roleText({ role: 'editor', project: 'speech' })).toBe('editor of speech');
  expect(roleText({ role: 'ingest', project: '' })).toBe('ingest in the default project');
  expect(roleText({ role: 'viewer', project: undefined })).toBe('viewer of all projects');
  expect(roleText({ role: 'operator', project: undefined })).toBe('operator of this server');
  expect(roleText({ role: 'monitor', project: undefined })).toBe('monitor of this server');
});
