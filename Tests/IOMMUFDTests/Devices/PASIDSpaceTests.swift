// SPDX-License-Identifier: Apache-2.0

import Host
import IOMMU
import SystemPackage
import TestSupport
import Testing

@testable import IOMMUFD

/// The owners of PASIDs. The C client vfio_pasids tests the commands.
@Suite struct PASIDSpaceTests {
  private final class File: Sendable {
    var identity: ObjectIdentifier { ObjectIdentifier(self) }
  }

  private let space = PASIDSpace(quota: 3)
  private let file = File()
  private let otherFile = File()
  private let owner: AddressSpace
  private let other: AddressSpace
  private let child: ChildProcess

  init() throws {
    child = try ChildProcess()
    owner = try InProcessClient().addressSpace()
    other = try AddressSpace(of: child.task)
  }

  private func allocate(
    _ first: UInt32 = 1, through last: UInt32 = .max, for owner: AddressSpace? = nil,
    by file: File? = nil
  ) throws -> PASID {
    try space.allocate(
      first, through: last, for: owner ?? self.owner, by: (file ?? self.file).identity)
  }

  @Test("the lowest free PASID is allocated from one space for all processes")
  func lowestFreePASID() throws {
    #expect(try allocate() == 1)
    #expect(try allocate(for: other) == 2, "there is one space")
    #expect(try allocate(0, through: 9) == 3)
    try space.free(1, of: owner)
    #expect(try allocate() == 1)
    #expect(try allocate(1 << 20 - 1).rawValue == 1 << 20 - 1)
  }

  @Test("a PASID is allocated from the requested range, both ends included")
  func rangesAreInclusive() throws {
    #expect(try allocate(7, through: 7) == 7)
    #expect(throws: Errno.noSpace) { try allocate(7, through: 7) }
    #expect(throws: Errno.noSpace) { try allocate(0, through: 0) }
    #expect(throws: Errno.noSpace) { try allocate(1 << 20) }
    #expect(throws: Errno.invalidArgument) { try allocate(8, through: 7) }
    #expect(space.count == 1)
  }

  @Test("each process has its own quota of PASIDs")
  func eachProcessHasItsQuota() throws {
    for _ in 0..<3 { _ = try allocate() }
    #expect(throws: Errno.noSpace) { try allocate(by: otherFile) }
    #expect(try allocate(for: other) == 4)
    try space.free(2, of: owner)
    #expect(try allocate(by: otherFile) == 2)
    #expect(throws: Errno.noSpace) {
      try PASIDSpace(quota: 0).allocate(1, through: 9, for: owner, by: file.identity)
    }
  }

  @Test("only the owner can free a PASID")
  func onlyTheOwnerFrees() throws {
    let pasid = try allocate()
    #expect(throws: Errno.permissionDenied) { try space.free(pasid, of: other) }
    #expect(throws: Errno.permissionDenied) { try space.requireOwner(other, of: pasid) }
    #expect(throws: Errno.noSuchFileOrDirectory) {
      try space.free(PASID(rawValue: pasid.rawValue + 1), of: owner)
    }
    try space.requireOwner(owner, of: pasid)
    try space.free(pasid, of: owner)
    #expect(throws: Errno.noSuchFileOrDirectory) { try space.free(pasid, of: owner) }
    #expect(space.count == 0)
  }

  @Test("a range of PASIDs selects only those of its owner")
  func pasidsOfARange() throws {
    _ = try allocate(5)
    _ = try allocate(6, for: other)
    _ = try allocate(7)
    #expect(space.all(of: owner, 0, through: .max) == [5, 7])
    #expect(space.all(of: owner, 6, through: 7) == [7])
    #expect(space.all(of: other, 0, through: .max) == [6])
    #expect(space.all(of: owner, 8, through: 7).isEmpty)
  }

  @Test("the PASIDs of a file are freed when the file is closed")
  func closeFreesPASIDs() throws {
    _ = try allocate()
    _ = try allocate(by: otherFile)
    _ = try allocate(for: other)
    space.freeAll(of: file.identity)
    #expect(space.count == 1)
    #expect(space.all(of: owner, 0, through: .max) == [2])
  }

  @Test("a PASID that is in use is not freed")
  func pasidsInUseAreNotFreed() throws {
    let pasid = try allocate()
    try space.hold(pasid, of: owner, by: otherFile.identity)
    #expect(throws: Errno.permissionDenied) {
      try space.hold(pasid, of: other, by: file.identity)
    }
    #expect(throws: Errno.noSuchFileOrDirectory) {
      try space.hold(PASID(rawValue: pasid.rawValue + 1), of: owner, by: file.identity)
    }
    #expect(throws: Errno.resourceBusy) { try space.free(pasid, of: owner) }
    space.freeAll(of: file.identity)
    try space.requireOwner(owner, of: pasid)
    #expect(throws: Errno.noSpace) {
      try allocate(pasid.rawValue, through: pasid.rawValue, for: other)
    }
    space.release(pasid, by: otherFile.identity)
    #expect(try allocate(pasid.rawValue, through: pasid.rawValue, for: other) == pasid)

    try space.hold(pasid, of: other, by: otherFile.identity)
    space.release(pasid, by: otherFile.identity)
    try space.requireOwner(other, of: pasid)
  }
}
