// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Host
internal import SystemPackage
internal import Testing
internal import UAPI

@testable import LauncherFront

private struct Node: CharacterDevice {
  let name: String
  func open(by client: any Client) throws(Errno) -> any OpenFile { throw .ioError }
}

private let tree = VirtualTree([
  DeviceNode(
    paths: ["/dev/iommu", "/dev/iommufd-sim"], major: 511, minor: 0, device: Node(name: "iommu")),
  DeviceNode(
    paths: ["/dev/vfio/devices/vfio7"], major: 511, minor: 7,
    device: Node(name: "vfio/devices/vfio7")),
])

@Suite struct PathWalkTests {
  private let task = HostTask(id: getpid())

  /// What `path` leads to, with the test for candidates, as the supervisor does.
  private func target(
    _ path: String, from directory: Int32 = AT_FDCWD, followsLast: Bool = true,
    _ restrictions: PathWalk.Restrictions = []
  ) throws -> PathTarget? {
    let text = strdup(path)
    defer { free(text) }
    let address = UInt64(UInt(bitPattern: text))
    let candidate = PathCandidate(tree, of: task, rootsDiffer: false)
    guard
      let bytes = candidate.path(at: address, from: directory, followsLast: followsLast)
    else { return nil }
    #expect(bytes == Array(path.utf8))
    var walk = PathWalk(
      tree, of: task, rootsDiffer: false, followsLast: followsLast,
      restrictions: restrictions
    ) { _ in false }
    return try walk.target(of: bytes, from: directory)
  }

  private func entry(
    _ path: String, from directory: Int32 = AT_FDCWD, followsLast: Bool = true,
    _ restrictions: PathWalk.Restrictions = []
  ) throws -> VirtualEntry? {
    let target = try target(path, from: directory, followsLast: followsLast, restrictions)
    guard case .entry(let entry, _) = target else { return nil }
    return entry
  }

  private func minor(_ path: String, from directory: Int32 = AT_FDCWD) throws -> UInt32? {
    try entry(path, from: directory)?.node?.minor
  }

  @Test func allSpellingsOfANodesPathLeadToIt() throws {
    for path in [
      "/dev/iommu", "/dev/iommufd-sim", "//dev///iommu", "/dev/./iommu", "/tmp/../dev/iommu",
      "/proc/self/root/dev/iommu", "/proc/thread-self/root/../dev/iommu",
    ] {
      #expect(try minor(path) == 0, "\(path)")
    }
    #expect(try minor("/dev/vfio/devices/vfio7") == 7)
    #expect(try minor("/dev/vfio/devices/../devices/vfio7") == 7)
  }

  @Test func otherPathsLeadNowhere() throws {
    let others = [
      "", "/", "/dev/iommux", "iommu", "/tmp/iommu", "/dev/null", "/etc/passwd", "/dev/fd/99",
      "/proc/self/fd/99", "/..", "/no/../dev/iommu", "/etc/passwd/../../dev/iommu",
    ]
    for path in others { #expect(try minor(path) == nil, "\(path)") }
  }

  @Test func aNodeIsNoDirectory() {
    for path in ["/dev/iommu/", "/dev/iommu/.", "/dev/iommu/x", "/dev/iommu/../iommu"] {
      #expect(throws: Errno.notDirectory, "\(path)") { try target(path) }
    }
  }

  @Test func directoriesAboveNodesAreFound() throws {
    for path in ["/dev/vfio", "/dev/vfio/devices", "/dev/vfio/", "/dev/vfio/../vfio/devices"] {
      #expect(try entry(path)?.isDirectory == true, "\(path)")
    }
    guard case .entry(let entry, .some) = try target("/dev") else {
      Issue.record("/dev is not the host's")
      return
    }
    #expect(entry.path == "/dev")
  }

  @Test func aDirectoryOfTheTreeLacksOtherNames() throws {
    if access("/dev/vfio", F_OK) == 0 { return }
    guard case .missing(let directory) = try target("/dev/vfio/devices/vfio8") else {
      Issue.record("the name is not missing")
      return
    }
    #expect(directory.path == "/dev/vfio/devices")
    #expect(throws: Errno.noSuchFileOrDirectory) { try target("/dev/vfio/x/vfio7") }
    guard case .host = try target("/dev/vfio/../null") else {
      Issue.record("the path does not lead back to the host")
      return
    }
  }

  @Test func pathsAreResolvedRelativeToADescriptor() throws {
    let directory = try FileDescriptor.open("/dev", .readOnly)
    defer { try? directory.close() }
    #expect(try minor("iommu", from: directory.rawValue) == 0)
    #expect(try minor("vfio/devices/vfio7", from: directory.rawValue) == 7)
    #expect(try minor("iommu", from: 9999) == nil)
    #expect(try minor("/dev/iommu", from: 9999) == 0)
  }

  @Test func symbolicLinksAreFollowed() throws {
    var template = Array("/tmp/launcher-XXXXXX".utf8CString)
    let made = mkdtemp(&template)
    let directory = String(cString: try #require(made))
    defer {
      for name in ["a", "b", "loop", "dev", "devices"] { unlink("\(directory)/\(name)") }
      rmdir(directory)
    }
    symlink("/dev/iommu", "\(directory)/a")
    symlink("a", "\(directory)/b")
    symlink("loop", "\(directory)/loop")
    symlink("/dev", "\(directory)/dev")
    symlink("/dev/vfio/devices", "\(directory)/x")
    #expect(try minor("\(directory)/a") == 0)
    #expect(try entry("\(directory)/a", followsLast: false) == nil)
    #expect(try minor("\(directory)/b") == 0)
    #expect(try minor("\(directory)/loop") == nil)
    #expect(try minor("\(directory)/dev/iommu") == 0)
    #expect(try entry("\(directory)/x/")?.path == "/dev/vfio/devices")
    #expect(try minor("\(directory)/x/vfio7") == 7)
    unlink("\(directory)/x")
  }

  @Test func restrictionsOfOpenat2AreKept() throws {
    let directory = try FileDescriptor.open("/dev", .readOnly)
    defer { try? directory.close() }
    let dev = directory.rawValue
    #expect(try entry("iommu", from: dev, [.beneath, .noLinks, .sameMount]) != nil)
    #expect(throws: Errno.improperLink) { try entry("/dev/iommu", from: dev, .beneath) }
    #expect(throws: Errno.improperLink) { try entry("../dev/iommu", from: dev, .beneath) }
    #expect(try entry("/../iommu", from: dev, .inRoot) != nil)
  }

  /// A directory that only has the same path is another one.
  @Test func theTreeIsLaidOverADirectoryAndNotOverAText() throws {
    var template = Array("/tmp/launcher-XXXXXX".utf8CString)
    let made = mkdtemp(&template)
    let directory = String(cString: try #require(made))
    defer {
      rmdir("\(directory)/dev")
      rmdir(directory)
    }
    mkdir("\(directory)/dev", 0o755)
    let root = try FileDescriptor.open(directory, .readOnly)
    defer { try? root.close() }
    #expect(try entry("/dev/iommu", from: root.rawValue, .inRoot) == nil)
  }

  @Test func aPlaceHolderStandsForItsEntry() throws {
    let entry = try #require(try entry("/dev/vfio/devices/vfio7"))
    let placeHolder = try tree.openPlaceHolder(of: entry, flags: O_RDONLY)
    #expect(try minor("/proc/self/fd/\(placeHolder.rawValue)") == 7)
    #expect(try minor("/dev/fd/\(placeHolder.rawValue)") == 7)
  }
}
