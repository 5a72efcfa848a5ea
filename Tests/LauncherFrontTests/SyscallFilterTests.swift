internal import Testing

@testable import LauncherFront

@Test func placeholder() { #expect(!SyscallFilter().instructions.isEmpty) }
